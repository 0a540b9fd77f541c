//! Whom to let in: the person at the terminal is asked about each offer.

use std::io::{self, IsTerminal};

use direc_smol::Offer;
use smol::future::or;

use super::stdin::{Question, Stdin};
use crate::out::Out;

/// Decides about offers.
pub(super) enum Asker {
    /// Everyone is welcome: no question.
    Yes,
    /// There is nobody to ask.
    Nobody,
    /// The person at the terminal.
    Person(Stdin),
}

impl Asker {
    /// `yes`: accepts without asking. Otherwise asks, if a terminal is there.
    pub(super) fn new(yes: bool, stdin: &Stdin) -> Self {
        match (yes, io::stdin().is_terminal()) {
            (true, _) => Self::Yes,
            (false, true) => Self::Person(stdin.clone()),
            (false, false) => Self::Nobody,
        }
    }

    /// Decides about an offer, beside others where that takes a person.
    pub(super) fn consider(&self, offer: Offer, out: Out) {
        let refuse = |offer: Offer, why: &str| {
            out.note(&format!("refused {}: {why}", offer.peer()));
            offer.refuse();
        };
        match self {
            Self::Yes => offer.accept(),
            Self::Nobody => refuse(offer, "nobody to ask (see --allow and --yes)"),
            Self::Person(stdin) => match stdin.ask(offer.peer()) {
                Ok(question) => smol::spawn(wait_for_answer(offer, question)).detach(),
                Err(unasked) => refuse(offer, unasked.why()),
            },
        }
    }
}

/// The question goes away with the offer.
async fn wait_for_answer(offer: Offer, question: Question) {
    let withdrawn = async {
        offer.withdrawn().await;
        None
    };
    match or(withdrawn, question.answer()).await {
        Some(true) => offer.accept(),
        Some(false) | None => offer.refuse(),
    }
}
