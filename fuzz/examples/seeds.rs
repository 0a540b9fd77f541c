//! Writes the committed corpora: `RUSTFLAGS="--cfg fuzzing" cargo run --example seeds` in `fuzz/`.
//!
//! `message` and `datagram` get one well-formed example of each kind, by hand from `docs/protocol.md`. `peer` and
//! `scenario` gets bytes drawn by the simulator's own generator. `peer` and
//! `relay` get short programs: the scene's bytes, then operations, each with the bytes it reads.

use std::{fs, io, path::Path};

use direc_fuzz::{Op, Scene};
use direc_sim::rng::{Purpose, Rng};

const WARM: u8 = 2;

/// A program: the scene, then (operation, its bytes).
fn program(scene: Scene, steps: &[(Op, &[u8])]) -> Vec<u8> {
    let mut out = scene.bytes().to_vec();
    for (op, bytes) in steps {
        out.push(*op as u8);
        out.extend_from_slice(bytes);
        out.extend((bytes.len()..op.arguments()).map(|_| 0));
    }
    out
}

/// A connection that goes direct, and data on it.
fn talking() -> Vec<(Op, &'static [u8])> {
    vec![
        (Op::Connect, &[0, 0, 0]),
        (Op::Pass, &[200]),
        (Op::Pass, &[200]),
        (Op::Open, &[0, 0, 0]),
        (Op::Write, &[0, 0, 40]),
        (Op::Pass, &[100]),
        (Op::Read, &[1]),
        (Op::Pass, &[100]),
    ]
}

fn peers() -> Vec<(&'static str, Vec<u8>)> {
    let near = Scene { consents: 0, delays: [9, 14, 19], flags: WARM };
    let with = |scene: Scene, more: &[(Op, &[u8])]| program(scene, &[talking().as_slice(), more].concat());
    vec![
        ("direct", with(near, &[(Op::Close, &[0, 0]), (Op::Pass, &[200])])),
        (
            "asked",
            program(
                Scene { consents: 0b0101, flags: WARM | 1, ..near },
                &[(Op::Connect, &[0, 0, 0]), (Op::Pass, &[60]), (Op::Answer, &[1, 0, 0]), (Op::PassLong, &[1])],
            ),
        ),
        (
            "nat-moves",
            with(near, &[(Op::Remap, &[0, 3]), (Op::Write, &[0, 0, 20]), (Op::PassLong, &[4]), (Op::Read, &[1])]),
        ),
        ("many-addresses", {
            let first: &[(Op, &[u8])] = &[(Op::Remap, &[0, 1]), (Op::Remap, &[1, 1]), (Op::PassLong, &[60])];
            program(near, &[first, &talking(), &[(Op::Remap, &[0, 0]), (Op::PassLong, &[90])]].concat())
        }),
        (
            "direct-path-dies",
            with(near, &[(Op::Cut, &[2]), (Op::Write, &[0, 0, 90]), (Op::PassLong, &[10]), (Op::Cut, &[2])]),
        ),
        (
            "bad-weather",
            program(
                near,
                &[&[(Op::Weather, &[60, 60, 30, 90, 1][..])][..], &talking(), &[(Op::PassLong, &[3])]].concat(),
            ),
        ),
        (
            "again-and-from-elsewhere",
            with(
                near,
                &[
                    (Op::Replay, &[3, 20, 0x80, 0, 0]),
                    (Op::Replay, &[9, 31, 0x81, 7, 9]),
                    (Op::Together, &[0, 5, 0]),
                    (Op::Garbage, &[0, 30, 20, 40, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
                ],
            ),
        ),
        (
            "lying-relay",
            program(
                Scene { flags: 4 | 8, ..near },
                &[
                    (Op::Pass, &[100]),
                    // Two hole-punch ports for P4, whose stream is the newer one, and for P2.
                    (Op::Act, &[0, 1, 0, 1, 2, 0, 1]),
                    (Op::Act, &[0, 1, 1, 1, 2, 0, 1]),
                    (Op::Pass, &[40]),
                    (Op::Connect, &[0, 0, 0]),
                    (Op::Pass, &[40]),
                    // Go ahead, with a secret; three addresses; an authentic probe from one of them, and an echo.
                    (Op::Act, &[0, 1, 0, 5, 0, 9, 0, 0]),
                    (Op::Act, &[0, 1, 0, 8, 3, 1, 2, 6]),
                    (Op::Pass, &[40]),
                    (Op::Send, &[0, 0, 9, 1, 0, 3, 0, 0, 7]),
                    (Op::Send, &[0, 0, 9, 1, 0, 4, 0, 0]),
                    // An offer to P4, in the name of P2.
                    (Op::Act, &[0, 0, 0, 6, 0, 0, 0, 0, 0, 0]),
                    (Op::PassLong, &[2]),
                ],
            ),
        ),
        (
            "both-ways-and-goodbye",
            with(near, &[(Op::Connect, &[1, 0, 0]), (Op::Pass, &[90]), (Op::Shutdown, &[0]), (Op::PassLong, &[1])]),
        ),
    ]
}

fn relays() -> Vec<(&'static str, Vec<u8>)> {
    let near = Scene { consents: 0, delays: [9, 14, 19], flags: WARM };
    // A puppet opens a stream and registers on it, then another for an introduction to P4.
    let registers: (Op, &[u8]) = (Op::Act, &[0, 0, 0, 0, 0, 0]);
    let initiates: (Op, &[u8]) = (Op::Act, &[0, 0, 0, 4, 0, 0, 1, 0]);
    vec![
        ("introduced", program(near, &talking())),
        (
            "puppet-registers",
            program(near, &[registers, (Op::Pass, &[50]), initiates, (Op::Pass, &[50]), initiates, (Op::Pass, &[50])]),
        ),
        (
            "puppet-sends-cookies",
            program(
                near,
                &[
                    registers,
                    (Op::Pass, &[50]),
                    (Op::Act, &[0, 1, 0, 2, 0, 77]),
                    (Op::Pass, &[50]),
                    // The cookie from elsewhere, so that it must echo; its confirmation; a relayed packet.
                    (Op::Send, &[0, 12, 1, 1, 0, 0, 0]),
                    (Op::Pass, &[50]),
                    (Op::Send, &[0, 12, 1, 1, 0, 1, 0, 0]),
                    (Op::Send, &[0, 0, 0, 0, 0, 5, 0, 20]),
                ],
            ),
        ),
        (
            "puppet-with-p4s-key",
            program(Scene { flags: WARM | 4, ..near }, &[(Op::Act, &[1, 0, 0, 0, 0, 0]), (Op::PassLong, &[3])]),
        ),
        (
            "puppet-talks-nonsense",
            program(
                near,
                &[
                    (Op::Act, &[0, 0, 0, 7]),
                    (Op::Act, &[1, 9, 0, 5, 0, 9, 9, 9, 9]),
                    (Op::Pass, &[50]),
                    (Op::Act, &[0, 8, 0, 0, 0, 0, 5, 1]),
                    (Op::Pass, &[50]),
                    (Op::Act, &[1, 10, 0, 1]),
                    (Op::Act, &[0, 11, 3, 0]),
                    (Op::PassLong, &[2]),
                ],
            ),
        ),
        (
            "again-and-from-elsewhere",
            program(
                near,
                &[
                    talking().as_slice(),
                    &[
                        (Op::Replay, &[3, 31, 0x88, 0, 0]),
                        (Op::Replay, &[7, 31, 0x8c, 0, 1]),
                        (Op::Together, &[1, 6, 31]),
                        (Op::Garbage, &[31, 0, 9, 30, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]),
                        (Op::Pass, &[100]),
                    ],
                ]
                .concat(),
            ),
        ),
        (
            "asked-and-delayed",
            program(
                Scene { consents: 0b0101, flags: WARM | 1, ..near },
                &[(Op::Connect, &[0, 0, 0]), (Op::Pass, &[60]), (Op::Answer, &[1, 0, 0]), (Op::Pass, &[90])],
            ),
        ),
        ("relay-goes-down", program(near, &[talking().as_slice(), &[(Op::RelayDown, &[0x2a])]].concat())),
    ]
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap_or(0);
    digits.chunks(2).map(byte).collect()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{name}")), bytes)
}

fn main() -> io::Result<()> {
    for (name, text) in MESSAGES {
        let message = hex(text);
        write("message", name, &message)?;
    }
    // Cuts of 3, 20, 2 and 200 bytes, then all messages as one stream.
    let mut stream = vec![2, 19, 1, 199];
    for (_, text) in MESSAGES {
        let message = hex(text);
        stream.extend_from_slice(&(message.len() as u16).to_be_bytes());
        stream.extend_from_slice(&message);
    }
    write("message", "stream", &stream)?;
    for (name, start, length) in DATAGRAMS {
        let mut datagram = hex(start);
        datagram.resize(length, 0);
        write("datagram", name, &datagram)?;
    }
    for (name, program) in peers() {
        write("peer", name, &program)?;
    }
    for (name, program) in relays() {
        write("relay", name, &program)?;
    }
    // Long enough that every part of a scenario is drawn.
    for number in 0..8 {
        let mut scenario = vec![0; 160];
        Rng::new(number, Purpose::Garbage).fill(&mut scenario);
        write("scenario", &format!("drawn-{number}"), &scenario)?;
    }
    write("scenario", "plainest", &[0])
}

/// `docs/protocol.md` has these with their meanings.
const MESSAGES: [(&str, &str); 0] = [];

/// How each begins, and its length; the rest is zeros.
const DATAGRAMS: [(&str, &str, usize); 9] = [
    ("cookie", "01 000102030405060708090a0b0c0d0e0f", 64),
    ("echo", "02 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f", 33),
    ("confirm", "03 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f", 33),
    ("probe", "04 0001020304050607 08090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f", 1200),
    ("probe-echo", "05 0001020304050607 08090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f", 33),
    ("check", "06 0001020304050607 08090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f", 33),
    ("relayed", "08 0001020304050607 40", 40),
    ("quic-short", "40 0001020304050607", 40),
    ("quic-long", "c0 00000001 08 0001020304050607 00", 60),
];
