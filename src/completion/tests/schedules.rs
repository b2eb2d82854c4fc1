//! Goal: whoever waits for a completion learns its result once, in every order of what the two ends do.
//!
//! Method: each claim runs under every schedule there is, but for one that has too many.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::super::*;
use super::Outcome;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::tests::{drawn, searched};
use crate::sync::thread::{Builder, JoinHandle};

fn soon() -> Deadline {
    Deadline::after(std::time::Duration::from_secs(3600))
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().spawn(work).unwrap()
}

#[test]
fn a_waiter_learns_the_result() {
    searched(|| {
        let (completer, mut pending) = completion::<u32, Abandoned>();
        let waiter = spawn(move || pending.wait(soon()));
        completer.resolve(Ok(7));
        assert_eq!(waiter.join().unwrap(), Some(Ok(7)));
    });
}

#[test]
fn a_waiter_learns_that_the_work_was_abandoned() {
    searched(|| {
        let (completer, mut pending) = completion::<u32, Abandoned>();
        let waiter = spawn(move || pending.wait(soon()));
        drop(completer);
        assert_eq!(waiter.join().unwrap(), Some(Err(Abandoned)));
    });
}

#[test]
fn a_result_that_was_seen_to_be_there_is_had_without_waiting() {
    searched(|| {
        let (completer, mut pending) = completion::<u32, Abandoned>();
        let resolver = spawn(move || completer.resolve(Ok(7)));
        let seen = pending.is_resolved();
        let had = pending.wait(Deadline::passed());
        assert!(had == Some(Ok(7)) || (had.is_none() && !seen), "{seen} {had:?}");
        resolver.join().unwrap();
        assert_eq!(had.or_else(|| pending.wait(Deadline::passed())), Some(Ok(7)));
    });
}

#[test]
fn a_callback_is_called_once_whichever_end_comes_first() {
    for lost in [false, true] {
        let claim = if lost { callback::<true> } else { callback::<false> };
        searched(claim);
    }
}

/// Sets a callback while another thread resolves the completion, or drops its end.
fn callback<const LOST: bool>() {
    let called = Arc::new(Mutex::new(Vec::new()));
    let (completer, pending) = completion::<u32, Abandoned>();
    let resolver = spawn(move || {
        if !LOST {
            completer.resolve(Ok(7));
        }
    });
    let calls = Arc::clone(&called);
    pending.on_ready(move |result| calls.lock().unwrap().push(result));
    resolver.join().unwrap();
    let expected: Outcome = if LOST { Err(Abandoned) } else { Ok(7) };
    assert_eq!(*called.lock().unwrap(), [expected]);
}

#[test]
fn a_callback_may_wait_for_the_next_completion() {
    drawn(|| {
        let (first, pending) = completion::<u32, Abandoned>();
        let (second, mut next) = completion::<u32, Abandoned>();
        let chained = spawn(move || {
            let (done, mut all) = completion::<u32, Abandoned>();
            pending.on_ready(move |_| done.resolve(next.wait(soon()).unwrap()));
            all.wait(soon())
        });
        let other = spawn(move || second.resolve(Ok(2)));
        first.resolve(Ok(1));
        assert_eq!(chained.join().unwrap(), Some(Ok(2)));
        other.join().unwrap();
    });
}

#[test]
fn a_future_that_was_polled_too_early_is_woken() {
    searched(|| {
        let (completer, pending) = completion::<u32, Abandoned>();
        let resolver = spawn(move || completer.resolve(Ok(7)));
        assert_eq!(shuttle::future::block_on(pending), Ok(7));
        resolver.join().unwrap();
    });
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_waker_of_the_last_poll_is_woken_and_no_other_after_it() {
    searched(|| {
        let (completer, mut pending) = completion::<u32, Abandoned>();
        let resolver = spawn(move || completer.resolve(Ok(7)));
        let counters = [Arc::new(Counter::default()), Arc::new(Counter::default())];
        let mut polled = Vec::new();
        for counter in &counters {
            let waker = Waker::from(Arc::clone(counter));
            let poll = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
            polled.push(poll);
            if poll.is_ready() {
                break;
            }
        }
        resolver.join().unwrap();
        let woken: Vec<_> = counters.iter().map(|counter| counter.0.load(Ordering::SeqCst)).collect();
        match polled.as_slice() {
            [Poll::Ready(Ok(7))] => assert_eq!(woken, [0, 0]),
            [Poll::Pending, Poll::Ready(Ok(7))] => assert_eq!(woken, [1, 0]),
            [Poll::Pending, Poll::Pending] => assert_eq!(woken, [0, 1]),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped_once() {
    searched(|| {
        let held = Arc::new(());
        let (completer, pending) = completion::<Arc<()>, Abandoned>();
        let result = Arc::clone(&held);
        let resolver = spawn(move || completer.resolve(Ok(result)));
        drop(pending);
        resolver.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    });
}
