//! What must hold of a directory that is gone on from, however it was left.

use std::path::Path;
use std::sync::Arc;

use recoverylog::player::{Played, Player, Warning};
use recoverylog::vfs::{CrashPlan, Fault, FaultPlan, FaultyFs, FileSystem, MemoryFs, OpenMode};
use recoverylog::{ErrorKind, FsmHints};

use super::judge::tree;
use super::random::Random;
use super::writer::{Shard, options};

const TARGET: &str = "/data";

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    pub(crate) plays: u64,
    pub(crate) resumed: u64,
    pub(crate) kept_files: u64,
    pub(crate) rebuilt_files: u64,
    pub(crate) anew: u64,
    pub(crate) crashed: u64,
}

impl Tried {
    pub(crate) fn add(&mut self, other: Self) {
        self.plays += other.plays;
        self.resumed += other.resumed;
        self.kept_files += other.kept_files;
        self.rebuilt_files += other.rebuilt_files;
        self.anew += other.anew;
        self.crashed += other.crashed;
    }
}

/// A machine whose directory is brought up to date now and then, while a shard is written elsewhere.
struct Machine {
    random: Random,
    disk: MemoryFs,
    /// The machine was started anew since the directory was seen to be whole.
    has_rebooted: bool,
    tried: Tried,
}

/// Goes through the life of one machine.
pub(crate) fn check(seed: u64) -> Tried {
    let (shard, random) = (Shard::new(Random::new(seed)), Random::new(seed ^ 0x5e5e));
    let mut shard = shard;
    let mut machine = Machine { random, disk: MemoryFs::new(), has_rebooted: false, tried: Tried::default() };
    for _ in 0..3 + machine.random.below(6) {
        if !machine.random.one_in(6) {
            shard.term();
        }
        match machine.random.below(10) {
            0..4 => machine.restore(&shard),
            4..6 => machine.stand_by(&mut shard),
            6..9 => machine.crash(&mut shard),
            _ => machine.meddle(),
        }
        if machine.random.one_in(3) {
            let plan = match machine.random.below(3) {
                0 => CrashPlan::DropUnsynced,
                1 => CrashPlan::KeepAll,
                _ => CrashPlan::Seeded(machine.random.next()),
            };
            machine.disk = machine.disk.crash_image(plan);
            machine.has_rebooted = true;
        }
    }
    machine.restore(&shard);
    machine.tried
}

impl Machine {
    fn player(&mut self, fs: Arc<dyn FileSystem>, shard: &Shard) -> recoverylog::Result<Player> {
        let of_log = shard.sets.iter().filter(|taken| taken.hints.log.as_ref() == Some(&shard.log));
        let sets: Vec<&FsmHints> = of_log.map(|taken| &taken.hints).collect();
        let first = FsmHints::empty(shard.log.clone());
        // A log that another one was forked into is played by hints only.
        let hints = match sets.get(self.random.below(sets.len() as u64 + 1) as usize) {
            Some(hints) => hints,
            None if shard.logs.len() == 1 => &first,
            None => sets.last().unwrap(),
        };
        let mut play = options();
        (play.resume, play.sync) = (true, self.random.one_in(2));
        play.parallelism = 1 + self.random.below(2) as usize;
        Player::new(&shard.journals, hints, fs, Path::new(TARGET), play)
    }

    /// Plays to the head, and compares; a directory of which too little is known is emptied before.
    fn restore(&mut self, shard: &Shard) {
        let played = match self.whole_player(shard).restore() {
            // A machine that was started anew may have lost the notes of what was created, and kept what was.
            Err(error) if error.kind() == ErrorKind::Invalid && self.has_rebooted => {
                assert!(error.to_string().contains("what is not ours"), "{error}");
                self.disk = MemoryFs::new();
                self.whole_player(shard).restore().unwrap()
            }
            played => played.unwrap(),
        };
        self.has_rebooted = false;
        self.count(&played);
        assert_eq!(tree(&self.disk, &played.fsm), shard.model);
    }

    fn whole_player(&mut self, shard: &Shard) -> Player {
        let player = self.player(Arc::new(self.disk.clone()), shard).unwrap();
        // What a machine lost may leave a directory that nobody can say anything of.
        let refused = self.is_refused();
        if refused {
            self.disk = MemoryFs::new();
            self.tried.crashed += 1;
            return self.player(Arc::new(self.disk.clone()), shard).unwrap();
        }
        player
    }

    /// Tells whether the directory holds something, and no state.
    fn is_refused(&self) -> bool {
        let is_empty = self.disk.read_dir(Path::new(TARGET)).map_or(true, |names| names.is_empty());
        !is_empty && self.disk.metadata(Path::new("/data/.recoverylog/STATE")).is_err()
    }

    /// Follows the log while more is recorded, and is stopped, in order or not.
    fn stand_by(&mut self, shard: &mut Shard) {
        let Ok(mut follower) = self.whole_player(shard).follow() else {
            assert!(self.has_rebooted);
            return self.restore(shard);
        };
        self.has_rebooted = false;
        if self.random.one_in(2) {
            shard.term();
            if follower.tail(recoverylog::Deadline::passed()).is_ok() && self.random.one_in(2) {
                let played = follower.finish().unwrap();
                self.tried.plays += 1;
                assert!(shard.log != played.log || tree(&self.disk, &played.fsm) == shard.model);
                return;
            }
        }
        if self.random.one_in(2) {
            follower.rest().unwrap();
        } else {
            follower.abandon();
        }
    }

    /// Is killed at some change.
    fn crash(&mut self, shard: &mut Shard) {
        if self.is_refused() {
            return;
        }
        let faulty = Arc::new(FaultyFs::new(self.disk.clone()));
        let fault = if self.random.one_in(2) { Fault::Crash } else { Fault::CrashTorn };
        faulty.inject(FaultPlan::At { number: self.random.below(150), fault });
        let Ok(player) = self.player(faulty.clone(), shard) else { return };
        if self.random.one_in(2) {
            drop(player.restore());
        } else if let Ok(mut follower) = player.follow() {
            shard.term();
            drop(follower.tail(recoverylog::Deadline::passed()));
            drop(follower.rest());
        }
        self.tried.crashed += u64::from(faulty.counts().values().any(|count| count.faults > 0));
    }

    /// Changes a file behind the player's back, or puts one of its own there.
    fn meddle(&mut self) {
        let names = self.disk.read_dir(Path::new(TARGET)).unwrap_or_default();
        for entry in names {
            let path = Path::new(TARGET).join(entry.name);
            if let Ok(file) = self.disk.open(&path, OpenMode::ReadWrite)
                && self.random.one_in(2)
            {
                match self.random.below(3) {
                    0 => file.write_all_at(b"!", self.random.below(100)).unwrap(),
                    1 => file.set_len(self.random.below(50)).unwrap(),
                    _ => self.disk.remove_file(&path).unwrap(),
                }
            }
        }
    }

    fn count(&mut self, played: &Played) {
        self.tried.plays += 1;
        if let Some(resumed) = played.resumed {
            self.tried.resumed += 1;
            self.tried.kept_files += resumed.kept_files as u64;
            self.tried.rebuilt_files += resumed.rebuilt_files as u64;
        } else {
            let says_so = |warning: &Warning| matches!(warning, Warning::NotResumed { .. });
            self.tried.anew += u64::from(played.warnings.iter().any(says_so));
        }
    }
}
