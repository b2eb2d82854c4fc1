//! Goal: whoever waits for credit goes on once there is enough, and credit is never exceeded.
//!
//! Method: the smallest claims run under every schedule there is, the others under drawn ones.

use std::sync::Arc;

use super::super::*;
use crate::sync::tests::{draw, drawn, searched};
use crate::sync::thread::{Builder, JoinHandle};

fn soon() -> Deadline {
    Deadline::after(std::time::Duration::from_secs(3600))
}

/// Makes credit of ten bytes, all of which are taken.
fn exhausted() -> Arc<Credit> {
    let credit = Arc::new(Credit::new(10));
    assert_eq!(credit.take(10, Deadline::passed), Ok(10));
    credit
}

fn taking(credit: &Arc<Credit>, bytes: u64) -> JoinHandle<Result<u64, Refused>> {
    let credit = Arc::clone(credit);
    Builder::new().spawn(move || credit.take(bytes, soon)).unwrap()
}

#[test]
fn credit_that_is_given_back_reaches_who_waits_for_it() {
    searched(|| {
        let credit = exhausted();
        let waiter = taking(&credit, 4);
        credit.give(10);
        assert_eq!(waiter.join().unwrap(), Ok(4));
        assert_eq!(credit.free(), 6);
    });
}

#[test]
fn credit_that_is_given_back_in_pieces_reaches_who_waits_for_all_of_it() {
    searched(|| {
        let credit = exhausted();
        let waiter = taking(&credit, 10);
        credit.give(3);
        credit.give(7);
        assert_eq!(waiter.join().unwrap(), Ok(10));
    });
}

#[test]
fn credit_for_two_lets_two_go_on() {
    drawn(|| {
        let credit = exhausted();
        let waiters = [taking(&credit, 4), taking(&credit, 6)];
        credit.give(10);
        for (waiter, bytes) in waiters.into_iter().zip([4, 6]) {
            assert_eq!(waiter.join().unwrap(), Ok(bytes));
        }
        assert_eq!(credit.free(), 0);
    });
}

#[test]
fn the_end_reaches_who_waits_and_who_comes_later() {
    searched(|| {
        let credit = exhausted();
        let waiter = taking(&credit, 4);
        credit.close();
        assert_eq!(waiter.join().unwrap(), Err(Refused::Closed));
        assert_eq!(credit.take(4, soon), Err(Refused::Closed));
    });
}

#[test]
fn waiters_of_all_sizes_take_turns_and_the_credit_is_whole_afterwards() {
    drawn(|| {
        let credit = Arc::new(Credit::new(10));
        let out = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (credit, out) = (Arc::clone(&credit), Arc::clone(&out));
                let sizes = [draw(12) as u64, draw(12) as u64];
                let work = move || {
                    for bytes in sizes {
                        let taken = credit.take(bytes, soon).unwrap();
                        assert_eq!(taken, bytes.min(10));
                        assert!(out.fetch_add(taken, Ordering::SeqCst) + taken <= 10);
                        out.fetch_sub(taken, Ordering::SeqCst);
                        credit.give(taken);
                    }
                };
                Builder::new().spawn(work).unwrap()
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(credit.free(), 10);
    });
}

#[test]
fn the_end_reaches_every_waiter_however_credit_moves() {
    drawn(|| {
        let credit = exhausted();
        let waiters = [taking(&credit, 4), taking(&credit, 8)];
        let ending = Arc::clone(&credit);
        let end = Builder::new().spawn(move || ending.close()).unwrap();
        credit.give(5);
        for (waiter, bytes) in waiters.into_iter().zip([4, 8]) {
            let taken = waiter.join().unwrap();
            assert!(taken == Err(Refused::Closed) || (taken == Ok(bytes) && bytes <= 5), "{taken:?}");
        }
        end.join().unwrap();
    });
}
