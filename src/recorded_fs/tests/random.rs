//! Operations drawn at random, several handles at once.

use super::*;
use crate::prng::SplitMix64;

const NAMES: [&str; 9] = ["a", "b", "c", "d/a", "d/b", "d/e/a", "LOG", "LOG.old", "d/LOG"];
const DIRS: [&str; 4] = ["d", "d/e", "f", "f/d"];

struct Run {
    bed: Bed,
    random: SplitMix64,
    handles: Vec<Arc<RecordedFile>>,
}

impl Run {
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.below(of.len() as u64) as usize]
    }

    fn name(&mut self) -> PathBuf {
        let name = self.pick(&NAMES);
        // After a rename of `d` its files are elsewhere.
        if self.random.below(6) == 0 { db("f").join(name) } else { db(name) }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.random.below(200) as usize;
        vec![self.random.next_u64() as u8; len]
    }

    /// Does one operation; whether it succeeds depends on what is there.
    fn step(&mut self) {
        let (name, other) = (self.name(), self.name());
        let (dir, other_dir) = (db(self.pick(&DIRS)), db(self.pick(&DIRS)));
        let bytes = self.bytes();
        let offset = self.random.below(300);
        let modes = [OpenMode::Create, OpenMode::CreateNew, OpenMode::ReadWrite, OpenMode::Truncate];
        let mode = modes[self.random.below(4) as usize];
        let at = self.random.below(self.handles.len().max(1) as u64) as usize;
        let handle = self.handles.get(at).cloned();
        let fs = &self.bed.fs;
        let outcome = match (self.random.below(20), handle) {
            (0..=4, _) | (12.., None) => fs.open_recorded(&name, mode).map(|file| self.handles.push(file)),
            (5, _) => fs.remove_file(&name),
            (6..=7, _) => fs.rename(&name, &other),
            (8, _) => fs.rename_no_replace(&name, &other),
            (9, _) => fs.hard_link(&name, &other),
            (10, _) => fs.rename(&dir, &other_dir),
            (11, _) => match offset % 3 {
                0 => fs.create_dir(&dir),
                1 => fs.remove_dir(&dir),
                _ => fs.remove_dir_all(&dir),
            },
            (12..=14, Some(file)) => file.write_all_at(&bytes, offset),
            (15..=16, Some(file)) => file.append(&bytes).map(drop),
            (17, Some(file)) => file.set_len(offset),
            (18, Some(file)) => file.allocate(offset, 50),
            (_, Some(_)) => {
                self.handles.swap_remove(at);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            let expected = [
                io::ErrorKind::NotFound,
                io::ErrorKind::AlreadyExists,
                io::ErrorKind::DirectoryNotEmpty,
                io::ErrorKind::NotADirectory,
                io::ErrorKind::IsADirectory,
                io::ErrorKind::InvalidInput,
            ];
            assert!(expected.contains(&error.kind()), "{error:?}");
        }
    }
}

#[test]
fn the_log_holds_the_local_tree_after_any_operations() {
    for seed in 0..300 {
        let bed = Bed::new();
        for dir in ["d", "d/e", "f"] {
            bed.fs.create_dir(&db(dir)).unwrap();
        }
        let mut run = Run { bed, random: SplitMix64::new(seed), handles: Vec::new() };
        for step in 0..80 {
            run.step();
            if step % 8 == 7 {
                let (played, local) = (played(&run.bed.journal), local(&run.bed.disk, Path::new("/db")));
                assert_eq!(played, local, "seed {seed}, step {step}");
            }
        }
        assert!(run.bed.fs.recorder().failure().is_none(), "seed {seed}");
    }
}

#[test]
fn the_log_holds_the_local_tree_after_operations_of_several_threads() {
    for seed in 0..20 {
        let bed = Bed::new();
        let shared = ["a", "b", "LOG"];
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let bed = &bed;
                scope.spawn(move || {
                    let mut random = SplitMix64::new(seed * 4 + thread);
                    for step in 0..60 {
                        let name = db(shared[random.below(3) as usize]);
                        let other = db(shared[random.below(3) as usize]);
                        let done = match random.below(8) {
                            0 => bed.fs.rename(&name, &other),
                            1 => bed.fs.hard_link(&name, &other),
                            2 => bed.fs.remove_file(&name),
                            kind => {
                                bed.fs.open_recorded(&name, OpenMode::Create).and_then(|file| match kind {
                                    3 => file.set_len(random.below(50)),
                                    4 => file.append(&[thread as u8; 10]).map(drop),
                                    _ => file.write_all_at(&[step as u8; 20], random.below(60)),
                                })
                            }
                        };
                        drop(done);
                    }
                });
            }
        });
        assert!(bed.fs.recorder().failure().is_none(), "seed {seed}");
        bed.fs.sync_dir(Path::new("/db")).unwrap();
        assert_eq!(played(&bed.journal), local(&bed.disk, Path::new("/db")), "seed {seed}");
    }
}
