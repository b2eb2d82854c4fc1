//! A way to etcd on which things get lost.
//!
//! *Invariants.* What passes is not changed.
//!
//! *Does not* understand what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    port: u16,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    /// Answers do not come through.
    is_mute: AtomicBool,
    /// Connections are cut as soon as they are made.
    is_cut: AtomicBool,
    /// After so many more bytes of answers the connection is cut; not at all where it is zero.
    answer_bytes: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), way: Arc::default() };
        let way = Arc::clone(&proxy.way);
        std::thread::spawn(move || {
            for from in listener.incoming() {
                let (Ok(from), false) = (from, way.is_cut.load(Ordering::SeqCst)) else { continue };
                let Ok(to) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for stream in [&from, &to] {
                    stream.set_nodelay(true).unwrap();
                    way.open.lock().unwrap().push(stream.try_clone().unwrap());
                }
                let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
                std::thread::spawn(move || pass(from, to, |_| true));
                let way = Arc::clone(&way);
                std::thread::spawn(move || pass(back_from, back_to, |bytes| way.answers(bytes)));
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.port)
    }

    /// Lets no answer through, or lets them.
    pub(crate) fn mute(&self, is_mute: bool) {
        self.way.is_mute.store(is_mute, Ordering::SeqCst);
    }

    /// Cuts all connections; new ones too, until it is told otherwise.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.way.is_cut.store(is_cut, Ordering::SeqCst);
        self.way.drop_all();
    }

    /// Cuts the connection after so many more bytes of answers, once.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.way.answer_bytes.store(bytes, Ordering::SeqCst);
    }
}

impl Way {
    fn drop_all(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Tells whether answers come through.
    fn answers(&self, bytes: usize) -> bool {
        let left = self.answer_bytes.load(Ordering::SeqCst);
        if left > 0 {
            let left = left.saturating_sub(bytes);
            self.answer_bytes.store(left, Ordering::SeqCst);
            if left == 0 {
                self.drop_all();
                return false;
            }
        }
        !self.is_mute.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, may: impl Fn(usize) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if may(bytes) && to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}
