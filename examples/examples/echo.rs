//! A relay, two peers, one echo, in one program. `cargo run --example echo`

use direc_core::Consent;
use direc_smol::{Peer, PeerOptions, RelayOptions, RelayServer, ephemeral_key};
use smol::io::{AsyncWriteExt, copy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let relay = RelayServer::bind(RelayOptions::new(ephemeral_key()?, "127.0.0.1:0".parse()?))?;

        let mut options = PeerOptions::new(ephemeral_key()?, relay.url(None));
        options.consent = Consent::Any;
        let server = Peer::bind(options).await?;
        server.registered().await?;
        let id = server.id();
        smol::spawn(async move {
            let Some(connection) = server.accept().await else { return };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                if copy(&mut recv, &mut send).await.is_err() || send.close().await.is_err() {
                    break;
                }
            }
        })
        .detach();

        let client = Peer::bind(PeerOptions::new(ephemeral_key()?, relay.url(None))).await?;
        let connection = client.connect(id).await?;
        let (mut send, mut recv) = connection.open_bi().await?;
        send.write_all(b"hello").await?;
        send.finish()?;
        let answer = recv.read_to_end(1024).await?;
        show(&format!("{} says {:?}", id.short(), String::from_utf8_lossy(&answer)));
        show(&format!("by {:?}", connection.direct().await?));
        client.close().await;
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "what the example is for")]
fn show(text: &str) {
    println!("{text}");
}
