//! A double of a cluster of Gazette brokers, for tests: the same service, on loopback, over journals in memory.
//!
//! *Invariants.* It answers as real brokers were seen to: the same statuses, codes and words, and in each message what they
//! have in it. Several brokers are one cluster: each serves every journal, as if it had asked the primary. What a test
//! plans to go wrong goes wrong that often, and then no more.
//!
//! *Does not* replicate, watch listings, suspend on its own, or wait until a fragment is listed as stored: it is at once.

mod append;
mod connection;
mod fault;
mod labels;
mod log;
mod read;
mod service;
mod store;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::{collections::BTreeMap, fmt};

use tokio::sync::{oneshot, watch};
use tonic::transport::{Server, ServerTlsConfig};

use self::connection::Incoming;
pub(crate) use self::fault::{Call, Fault};
use self::log::Log;
use self::service::Service;
use crate::protocol::journal_server::JournalServer;
use crate::protocol::{Header, ProcessId, Route, header};

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How many brokers there are.
    pub(crate) brokers: usize,
    /// Which of them takes the appends of new journals.
    pub(crate) primary: usize,
    /// Where fragments are stored as files; without it they are said to be stored, and are nowhere but here.
    pub(crate) store: Option<PathBuf>,
    /// Whether others ask the primary for who asks them; otherwise they name it.
    pub(crate) proxies: bool,
    /// The one `authorization` that is let in.
    pub(crate) authorization: Option<String>,
    /// How it is known, and knows who asks.
    pub(crate) tls: Option<ServerTlsConfig>,
    /// The name that it goes by in routes.
    pub(crate) host: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        let host = "127.0.0.1";
        let (store, authorization, tls) = (None, None, None);
        Self { brokers: 1, primary: 0, store, proxies: true, authorization, tls, host }
    }
}

/// A cluster that runs.
pub(crate) struct Double {
    cluster: Arc<Cluster>,
    running: Mutex<Vec<Option<Running>>>,
}

/// One broker at work; ends with it.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join).transpose().unwrap();
    }
}

/// What the brokers of a cluster share.
struct Cluster {
    options: Options,
    brokers: Vec<Broker>,
    state: Mutex<State>,
    /// Counts changes that a reader may wait for.
    moved: watch::Sender<u64>,
}

struct State {
    logs: BTreeMap<String, Log>,
    revision: i64,
    faults: Vec<fault::Planned>,
    /// Each call that came: what, of which journal, with which `authorization`.
    calls: Vec<Came>,
    page_limit: usize,
    authorization: Option<String>,
}

/// A call as it came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) call: Call,
    pub(crate) journal: String,
    pub(crate) broker: usize,
    pub(crate) authorization: Option<String>,
}

struct Broker {
    address: SocketAddr,
    id: ProcessId,
    endpoint: String,
    accepted: AtomicUsize,
    /// Changes when every connection is to break.
    cut: watch::Sender<u64>,
}

impl Double {
    /// Starts a cluster.
    pub(crate) fn start(options: Options) -> Self {
        let listeners: Vec<_> =
            (0..options.brokers).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let broker = |(at, listener): (usize, &TcpListener)| {
            let address = listener.local_addr().unwrap();
            let id = ProcessId { zone: "local".into(), suffix: format!("broker-{at}") };
            let endpoint = format!("{scheme}://{}:{}", options.host, address.port());
            Broker { address, id, endpoint, accepted: AtomicUsize::new(0), cut: watch::Sender::new(0) }
        };
        let brokers = listeners.iter().enumerate().map(broker).collect();
        let state = State {
            logs: BTreeMap::new(),
            revision: 1,
            faults: Vec::new(),
            calls: Vec::new(),
            page_limit: usize::MAX,
            authorization: options.authorization.clone(),
        };
        let cluster =
            Arc::new(Cluster { options, brokers, state: Mutex::new(state), moved: watch::Sender::new(0) });
        let running =
            listeners.into_iter().enumerate().map(|(at, listener)| Some(run(&cluster, at, listener)));
        let running = Mutex::new(running.collect());
        Self { cluster, running }
    }

    /// Returns the address of a broker, as a client is given it.
    pub(crate) fn address(&self, broker: usize) -> String {
        self.cluster.brokers[broker].endpoint.clone()
    }

    /// Ends a broker at once, with every connection.
    pub(crate) fn down(&self, broker: usize) {
        let running = self.running.lock().unwrap()[broker].take();
        assert!(running.is_some(), "it was down");
    }

    /// Starts a broker again that was ended.
    pub(crate) fn up(&self, broker: usize) {
        let listener = TcpListener::bind(self.cluster.brokers[broker].address).unwrap();
        self.running.lock().unwrap()[broker] = Some(run(&self.cluster, broker, listener));
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        self.cluster.brokers.iter().for_each(Broker::cut);
    }

    /// Returns how many connections a broker was asked for.
    pub(crate) fn accepted(&self, broker: usize) -> usize {
        self.cluster.brokers[broker].accepted.load(Ordering::Relaxed)
    }

    /// Plans what goes wrong with the next `times` calls of a kind, of `journal` where one is named.
    pub(crate) fn plan(&self, call: Call, journal: Option<&str>, times: usize, fault: Fault) {
        let journal = journal.map(str::to_owned);
        self.cluster.lock().faults.push(fault::Planned { call, journal, left: times, fault });
    }

    /// Plans what goes wrong with the next call of a kind.
    pub(crate) fn next(&self, call: Call, fault: Fault) {
        self.plan(call, None, 1, fault);
    }

    /// Returns how much of what was planned has not happened.
    pub(crate) fn planned(&self) -> usize {
        self.cluster.lock().faults.iter().map(|planned| planned.left).sum()
    }

    /// Returns the calls that came.
    pub(crate) fn calls(&self) -> Vec<Came> {
        self.cluster.lock().calls.clone()
    }

    /// Counts the calls of a kind that came.
    pub(crate) fn count(&self, call: Call) -> usize {
        self.cluster.lock().calls.iter().filter(|came| came.call == call).count()
    }

    /// Returns all that was committed to a journal.
    pub(crate) fn content(&self, journal: &str) -> Vec<u8> {
        self.change(journal, |log| log.content.clone())
    }

    /// Changes a journal behind the back of everybody.
    pub(crate) fn change<T>(&self, journal: &str, change: impl FnOnce(&mut Log) -> T) -> T {
        let mut state = self.cluster.lock();
        let changed = change(state.logs.get_mut(journal).unwrap());
        drop(state);
        self.cluster.tell();
        changed
    }

    /// Deletes a journal, as if by a call.
    pub(crate) fn delete(&self, journal: &str) {
        self.cluster.lock().logs.remove(journal).unwrap();
        self.cluster.tell();
    }

    /// Lists at most so many fragments on a page, whatever is asked for.
    pub(crate) fn pages(&self, limit: usize) {
        self.cluster.lock().page_limit = limit;
    }

    /// Lets nobody in any more but who has this `authorization`.
    pub(crate) fn demand(&self, authorization: &str) {
        self.cluster.lock().authorization = Some(authorization.into());
    }

    /// Waits until `is_so`, which must come soon.
    pub(crate) fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let deadline = crate::soon();
        while !is_so(self) {
            assert!(!deadline.has_passed(), "waited in vain");
            crate::pause(std::time::Duration::from_millis(2));
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // Those that wait in a call end with their runtime.
        self.running.lock().unwrap().clear();
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Double").field("options", &self.cluster.options).finish_non_exhaustive()
    }
}

impl Broker {
    fn cut(&self) {
        self.cut.send_modify(|cut| *cut += 1);
    }
}

impl Cluster {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Wakes whoever waits for a journal to change.
    fn tell(&self) {
        self.moved.send_modify(|moved| *moved += 1);
    }

    /// Says who answers at place `at`, and who has the journal.
    fn header(&self, at: usize, log: Option<&Log>, revision: i64) -> Header {
        let route = match log {
            Some(Log { primary: Some(primary), .. }) => Route {
                members: self.brokers.iter().map(|broker| broker.id.clone()).collect(),
                primary: i32::try_from(*primary).unwrap(),
                endpoints: self.brokers.iter().map(|broker| broker.endpoint.clone()).collect(),
            },
            _ => Route { primary: -1, ..Route::default() },
        };
        let etcd = header::Etcd { cluster_id: 7, member_id: 8, revision, raft_term: 2 };
        Header { process_id: Some(self.brokers[at].id.clone()), route: Some(route), etcd: Some(etcd) }
    }
}

/// Runs a broker on a thread of its own.
fn run(cluster: &Arc<Cluster>, at: usize, listener: TcpListener) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let cluster = Arc::clone(cluster);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut server = Server::builder();
            if let Some(tls) = cluster.options.tls.clone() {
                server = server.tls_config(tls).unwrap();
            }
            let incoming = Incoming::new(listener, Arc::clone(&cluster), at);
            let service = JournalServer::new(Service { cluster, at });
            drop(tokio::spawn(server.add_service(service).serve_with_incoming(incoming)));
            let _ended = stopped.await;
        });
        // With it end its listener, its connections and the calls on them.
        drop(runtime);
    };
    let thread = std::thread::Builder::new().name(format!("double-{at}")).spawn(work).unwrap();
    Running { stop: Some(stop), thread: Some(thread) }
}
