//! What clients of other machines share: the threads on which they run, how they know whom they speak to, and how long they
//! wait before they ask again.
//!
//! *Invariants.* Whoever waits for work of these threads does so with a deadline, on any thread, inside of another runtime
//! too. Nothing is waited for when the threads end.
//!
//! *Does not* know any protocol.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::clock::Deadline;
use crate::completion::{Abandoned, completion};
use crate::error::{Error, ErrorKind, Result};

/// The first wait of a [`Backoff`], which then doubles.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest one.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How machines are known that are named with TLS.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Tls {
    /// Certificates of authorities in PEM (default: those of the system).
    pub authority_pem: Option<Vec<u8>>,
    /// A certificate and its key in PEM, which prove to the other side who asks.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the certificates of the other side, where it is not the one that it is reached by.
    pub server_name: Option<String>,
}

impl Tls {
    /// Returns what a connection is made with.
    ///
    /// # Errors
    /// `Invalid` where the name is none.
    pub(crate) fn config(&self) -> Result<ClientTlsConfig> {
        let mut config = match &self.authority_pem {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity_pem {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            if name.is_empty() {
                let what = "the name in the certificates of the other side is empty";
                return Err(Error::new(ErrorKind::Invalid, what));
            }
            config = config.domain_name(name.clone());
        }
        Ok(config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authority", &self.authority_pem.is_some())
            .field("identity", &self.identity_pem.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

/// The threads of a client. They end, without a wait, when it does.
pub(crate) struct Threads {
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    /// `Io` where none can be started.
    pub(crate) fn start(name: &str, threads: usize) -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(threads.max(1)).thread_name(name).enable_all().build();
        let runtime = runtime.map_err(|e| Error::io("starting the threads of the client failed", e))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs `work`; `None` where the threads have ended.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(work))
    }

    /// Runs `work` and waits for it; `None` once `deadline` has passed, or where it panicked. It is given up then.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (completer, mut completed) = completion::<T, Abandoned>();
        let task = self.spawn(async move { completer.resolve(Ok(work.await)) });
        let ended = completed.wait(deadline);
        if ended.is_none() {
            task.inspect(JoinHandle::abort);
        }
        ended?.ok()
    }

    /// Makes what has to be made on these threads.
    #[cfg(feature = "gazette")]
    pub(crate) fn inside<T>(&self, make: impl FnOnce() -> T) -> Option<T> {
        let runtime = self.runtime.as_ref()?;
        let inside = runtime.enter();
        let made = make();
        drop(inside);
        Some(made)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops this may be inside of another runtime, where none may be waited for.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

/// Waits between the tries of one request.
#[derive(Debug)]
pub(crate) struct Backoff {
    deadline: Deadline,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(deadline: Deadline) -> Self {
        Self { deadline, next: FIRST_WAIT }
    }

    /// Waits before the next try; false where there is no time for one.
    pub(crate) async fn wait(&mut self) -> bool {
        // Between half of it and all, so that those who failed together do not come back together.
        let drawn = crate::entropy::thousandths();
        let wait = self.next / 2 + self.next * drawn / 2_000;
        self.next = (self.next * 2).min(WAIT_MAX);
        if self.deadline.remaining() <= wait {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    /// Begins anew with short waits, after something has worked.
    #[cfg(feature = "gazette")]
    pub(crate) fn reset(&mut self, deadline: Deadline) {
        *self = Self::new(deadline);
    }

    #[cfg(feature = "gazette")]
    pub(crate) const fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// Why one try of a request has not ended it.
#[derive(Debug)]
pub(crate) enum Failed<E> {
    /// It would end so again.
    Final(E),
    /// It may end otherwise.
    Again(String),
}

/// Says how a call failed that `status` ended, with all causes.
pub(crate) fn told(what: &str, status: &tonic::Status) -> String {
    let mut told = format!("{what} ({:?}): {}", status.code(), status.message());
    let mut source = StdError::source(status);
    while let Some(error) = source {
        told.push_str(": ");
        told.push_str(&error.to_string());
        source = error.source();
    }
    told
}
