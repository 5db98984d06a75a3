//! Probes and metrics, on a thread and a runtime of their own, so that work on the process's other threads, however
//! long, never delays the answer to a probe.
//!
//! The router must not wait for anything that this work holds.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::Caps;

/// The thread that answers probes. It ends when this is dropped.
#[derive(Debug)]
pub struct Probes {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Probes {
    /// Answers from now on. Fails if it can't listen on the address or start a thread.
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
                // A prober that keeps its connection open must not delay the end.
                let _ = stopped.run_until_cancelled(served).await;
            });
        };
        std::thread::Builder::new()
            .name("probes".to_owned())
            .spawn(answer)
            .context("no thread for probes")?;
        Ok(Self { address, stop })
    }

    /// The address where probes are answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
