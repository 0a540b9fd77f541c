use direc_smol::{Connection, Consent, NodeId, Peer, PeerOptions, RelayUrl, load_or_create_key};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The machine to be reached: echoes what comes, to everybody at once.
async fn serve(relay: RelayUrl) -> Result<()> {
    let mut options = PeerOptions::new(load_or_create_key("server.key".as_ref())?, relay);
    options.consent = Consent::Any;
    let server = Peer::bind(options).await?;
    while let Some(connection) = server.accept().await {
        smol::spawn(async move {
            // What goes wrong with one client is no end for the others.
            if let Err(error) = echo(&connection).await {
                eprintln!("{}: {error}", connection.peer());
            }
        })
        .detach();
    }
    Ok(())
}

/// One connection: answers each stream, until the client closes.
async fn echo(connection: &Connection) -> Result<()> {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        send.write_chunk(recv.read_to_end(1024).await?.into()).await?;
        send.finish()?;
    }
    Ok(())
}

/// The other one: connected at once, through the relay if need be.
async fn hello(relay: RelayUrl, id: NodeId) -> Result<Vec<u8>> {
    let client = Peer::bind(PeerOptions::new(load_or_create_key("client.key".as_ref())?, relay)).await?;
    let connection = client.connect(id).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_chunk("hello".into()).await?;
    send.finish()?;
    connection.direct().await?; // waits for the direct path, or says why there is none
    let answer = recv.read_to_end(1024).await?;
    client.close().await; // a program that ends here first delivers what it has finished
    Ok(answer)
}
