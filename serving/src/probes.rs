//! Probes and metrics on a thread of their own, with a runtime of their own: what works on the process's other threads,
//! however long, can't keep a probe from being answered.
//!
//! Never here: what healthy means, and never a router that waits for something that the process's work holds.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::Caps;

/// The thread that answers probes. Dropped, it ends.
#[derive(Debug)]
pub struct Probes {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Probes {
    /// Answers from now on. Fails if the address can't be had, or a thread.
    pub fn start(listen: SocketAddr, router: Router) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).with_context(|| format!("can't listen on {listen}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let answer = move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let served = crate::serve(listener, None, Caps::PROBES, router, CancellationToken::new());
                // A prober that keeps its connection must not hold up the end.
                let _ = stopped.run_until_cancelled(served).await;
            });
        };
        std::thread::Builder::new()
            .name("probes".to_owned())
            .spawn(answer)
            .context("no thread for probes")?;
        Ok(Self { address, stop })
    }

    /// Where they are answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
