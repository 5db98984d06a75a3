//! A receiver for tests and the demo: takes every POST, writes it down durably, and answers as it was told to.
//!
//! Port `--listen` is what channels point at. Port `--control` is for the test: `GET /received?after=N&path=P` (JSON list),
//! `PUT /behaviours` (JSON map from path to [`sink::Behaviour`]), `DELETE /received`.
//! Never: an answer of 2xx before the request is in the file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// A receiver that remembers what it received and fails as told.
#[derive(Parser)]
struct Flags {
    /// Where channels send to.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Where the test asks and tells.
    #[arg(long, default_value = "0.0.0.0:8090")]
    control: SocketAddr,
    /// The file that keeps what was received, one JSON object a line. Without it requests are only counted, as cheaply as
    /// can be, for benchmarks.
    #[arg(long)]
    file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let (receiver, controller) = match &flags.file {
        Some(file) => {
            let sink = e2e::sink::Sink::open(file)?;
            (sink.receiver(), sink.control())
        }
        None => e2e::sink::counter(),
    };
    let receive = tokio::net::TcpListener::bind(flags.listen).await?;
    let control = tokio::net::TcpListener::bind(flags.control).await?;
    println!("receiving on {}, control on {}", receive.local_addr()?, control.local_addr()?);
    tokio::try_join!(async { axum::serve(receive, receiver).await }, async {
        axum::serve(control, controller).await
    },)?;
    Ok(())
}
