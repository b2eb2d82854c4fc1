//! Goal: no acknowledged byte is ever lost, and no byte that was not acknowledged is there in part.
//! Method: one script of appends over a file system that counts every change; it is run again and cut at each of
//! them, by a crash of the machine (with several fates of what was not synced), by the death of the process alone, and
//! by a failure of the call. Whatever is left must open, hold what was acknowledged, and take appends.

use super::*;
use crate::vfs::{Effect, Fault, FaultPlan, FaultyFs, File};

const FRAGMENT_BYTES: u64 = 4096;
const PLANS: [CrashPlan; 6] = [
    CrashPlan::DropUnsynced,
    CrashPlan::KeepAll,
    CrashPlan::Seeded(1),
    CrashPlan::Seeded(2),
    CrashPlan::Seeded(3),
    CrashPlan::Seeded(4),
];

type Faulty = FaultyFs<MemoryFs>;

/// What one run of the script was told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: Vec<u8>,
    registers: RegisterSet,
    /// The append whose outcome is not known.
    doubtful: Option<(Vec<u8>, RegisterSet)>,
    error: Option<JournalError>,
}

impl Told {
    /// Appends, and notes what it is told; true where that worked.
    fn append(&mut self, journal: &FileJournal, index: u64, bytes: usize) -> bool {
        let content = (0..bytes).map(|at| (index as usize * 31 + at) as u8).collect::<Vec<_>>();
        let mut append = Append::new(content.clone());
        append.at = Offset::new(self.acknowledged.len() as u64);
        if index.is_multiple_of(3) {
            append.union = registers(&index.to_string());
        }
        let after = self.registers.union(&append.union);
        match journal.append(append, soon()) {
            Ok(appended) => {
                self.acknowledged.extend(content);
                assert_eq!(appended.end.get(), self.acknowledged.len() as u64);
                assert_eq!(appended.registers, after);
                self.registers = after;
                true
            }
            Err(error) => {
                self.doubtful = Some((content, after));
                self.error = Some(error);
                false
            }
        }
    }

    /// Checks a journal that was opened again: everything acknowledged, and the doubtful append whole or not.
    fn check(&self, journal: &FileJournal, context: &str) {
        let found = content(journal).unwrap_or_else(|error| panic!("{context}: {error}"));
        let head = journal.head(soon()).unwrap();
        assert_eq!(head.offset.get(), found.len() as u64, "{context}");
        if found == self.acknowledged {
            assert_eq!(head.registers, self.registers, "{context}");
            return;
        }
        let Some((doubtful, registers)) = &self.doubtful else {
            panic!("{context}: {} bytes, {} acknowledged", found.len(), self.acknowledged.len());
        };
        assert!(found == [&self.acknowledged[..], doubtful].concat(), "{context}");
        assert_eq!(&head.registers, registers, "{context}");
    }
}

fn open_faulty(fs: &Arc<Faulty>) -> Result<FileJournal, JournalError> {
    let fs = Arc::clone(fs) as Arc<dyn FileSystem>;
    let journals = FileJournals::open_on(fs, ROOT, options(FRAGMENT_BYTES, true))
        .map_err(|error| JournalError::Unavailable { journal: name(), what: error.to_string() })?;
    journals.open_file(&name())
}

/// Opens, appends through several rolls, opens again, is superseded, closes. Ends at the first error.
fn script(fs: &Arc<Faulty>, told: &mut Told) -> Result<(), JournalError> {
    let journal = open_faulty(fs)?;
    for (index, bytes) in [10, 3000, 1, 2000, 4096, 5000, 17].into_iter().enumerate() {
        if !told.append(&journal, index as u64, bytes) {
            return Ok(());
        }
    }
    let second = open_faulty(fs)?;
    drop(journal);
    if !(told.append(&second, 7, 700) && told.append(&second, 8, 2500)) {
        return Ok(());
    }
    // Another process stops with the lock in its hands.
    let _stopped = lock_current(fs.inner());
    if told.append(&second, 9, 300) && told.append(&second, 10, 2000) {
        told.append(&second, 11, 2000);
    }
    Ok(())
}

/// Takes the lock of the open file with the highest id, as a process does that then stops.
fn lock_current(fs: &MemoryFs) -> Option<Arc<dyn File>> {
    let open = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "open");
    let newest = state_files(fs).into_iter().filter(open).max()?;
    let folder = Path::new(ROOT).join(STATE_FOLDER).join("journals").join(name().as_str());
    let file = fs.open(&folder.join(newest), OpenMode::ReadWrite).unwrap();
    file.try_lock(LockMode::Exclusive).unwrap().then_some(file)
}

/// Runs the script with one fault; whatever it ends with is in what it was told.
fn run(fs: &Arc<Faulty>) -> Told {
    let mut told = Told::default();
    if let Err(error) = script(fs, &mut told) {
        told.error = Some(error);
    }
    told
}

fn changes_of_script() -> u64 {
    let fs = Arc::new(Faulty::new(MemoryFs::new()));
    let told = run(&fs);
    assert!(told.error.is_none() && told.acknowledged.len() > 16_000, "{told:?}");
    fs.changes()
}

/// Checks what is left, appends to it, and checks that again.
fn check_and_go_on(fs: &MemoryFs, told: &Told, context: &str) {
    let journal = try_open_on(fs, FRAGMENT_BYTES).unwrap_or_else(|error| panic!("{context}: {error}"));
    told.check(&journal, context);
    let mut expected = content(&journal).unwrap();
    for piece in [&b"one more"[..], &[9; 4000]] {
        append(&journal, piece).unwrap_or_else(|error| panic!("{context}: {error}"));
        expected.extend_from_slice(piece);
    }
    drop(journal);
    let again = open_on(&fs.crash_image(CrashPlan::DropUnsynced), FRAGMENT_BYTES);
    assert!(content(&again).unwrap() == expected, "{context}");
}

#[test]
pub(super) fn a_crash_of_the_machine_at_any_change_loses_nothing_acknowledged() {
    let changes = changes_of_script();
    for number in 0..changes {
        let fs = Arc::new(Faulty::new(MemoryFs::new()));
        fs.inject(FaultPlan::At { number, fault: Fault::Crash });
        let told = run(&fs);
        assert!(fs.has_crashed(), "change {number}");
        for plan in PLANS {
            let image = fs.inner().crash_image(plan);
            check_and_go_on(&image, &told, &format!("crash at change {number} of {changes}, {plan:?}"));
        }
    }
    println!("{changes} points, {} images each", PLANS.len());
}

#[test]
pub(super) fn the_death_of_the_process_at_any_change_loses_nothing_acknowledged() {
    let changes = changes_of_script();
    for number in 0..changes {
        let fs = Arc::new(Faulty::new(MemoryFs::new()));
        fs.inject(FaultPlan::At { number, fault: Fault::Crash });
        let told = run(&fs);
        check_and_go_on(fs.inner(), &told, &format!("death at change {number} of {changes}"));
    }
    println!("{changes} points");
}

#[test]
pub(super) fn a_crash_while_a_crash_is_recovered_from_loses_nothing() {
    let changes = changes_of_script();
    let mut points = 0;
    for number in (0..changes).step_by(5) {
        let fs = Arc::new(Faulty::new(MemoryFs::new()));
        fs.inject(FaultPlan::At { number, fault: Fault::Crash });
        let told = run(&fs);
        for second in 0.. {
            points += 1;
            let plan = CrashPlan::Seeded(number * 1000 + second);
            let recovering = Arc::new(Faulty::new(fs.inner().crash_image(plan)));
            recovering.inject(FaultPlan::At { number: second, fault: Fault::Crash });
            let opened = open_faulty(&recovering);
            let context = format!("crash at change {number}, {plan:?}, then at change {second} of recovery");
            for image in [recovering.inner().clone(), recovering.inner().crash_image(plan)] {
                let journal = try_open_on(&image, FRAGMENT_BYTES);
                told.check(&journal.unwrap_or_else(|error| panic!("{context}: {error}")), &context);
            }
            if !recovering.has_crashed() {
                opened.unwrap();
                break;
            }
        }
    }
    println!("{points} points, 2 images each");
}

#[test]
pub(super) fn a_failure_of_any_change_loses_nothing_and_a_wedge_is_seen_by_every_handle() {
    let faults = [
        Fault::Fail(io::ErrorKind::Other),
        Fault::Fail(io::ErrorKind::StorageFull),
        Fault::Torn(io::ErrorKind::Other),
        Fault::Short,
    ];
    let changes = changes_of_script();
    let (mut wedged, mut names_lost) = (0, 0);
    for (number, fault) in (0..changes).flat_map(|number| faults.map(|fault| (number, fault))) {
        let context = format!("{fault:?} at change {number} of {changes}");
        let fs = Arc::new(Faulty::new(MemoryFs::new()));
        let bystander = open_faulty(&fs).unwrap();
        fs.inject(FaultPlan::At { number, fault });
        let told = run(&fs);
        fs.heal();
        if let Some(JournalError::Unknown { .. }) = told.error {
            wedged += 1;
            let refused = append(&bystander, b"after the failure");
            assert!(matches!(refused, Err(JournalError::Wedged { .. })), "{context}: {refused:?}");
        }
        if fault == Fault::Short {
            assert!(told.error.is_none(), "{context}: {told:?}");
        }
        told.check(&bystander, &context);
        drop(bystander);
        check_and_go_on(&fs.inner().crash_image(CrashPlan::DropUnsynced), &told, &context);
        match open_faulty(&fs) {
            // After a failed flush of a folder nothing more can be promised before the next boot.
            Err(JournalError::Wedged { .. }) => names_lost += 1,
            reopened => {
                told.check(&reopened.unwrap_or_else(|error| panic!("{context}: {error}")), &context);
                check_and_go_on(fs.inner(), &told, &context);
            }
        }
    }
    println!("{} points", changes * faults.len() as u64);
    assert!(names_lost > 10, "flushes of folders were among the changes: {names_lost}");
    assert!(wedged > 50, "writes and flushes of commits were among the changes: {wedged}");
}

#[test]
fn space_that_cannot_be_reserved_matters_only_where_there_is_none() {
    for (kind, works) in [(io::ErrorKind::Unsupported, true), (io::ErrorKind::StorageFull, false)] {
        let fs = Arc::new(Faulty::new(MemoryFs::new()));
        let journal = open_faulty(&fs).unwrap();
        append(&journal, b"one").unwrap();
        fs.inject(FaultPlan::Nth { effect: Effect::Allocate, number: 0, fault: Fault::Fail(kind) });
        let second = append(&journal, &[2; 4096]);
        assert_eq!(second.is_ok(), works, "{second:?}");
        assert!(works || matches!(second, Err(JournalError::Io { .. })), "{second:?}");
        // A full disk may have room again.
        append(&journal, b"three").unwrap();
        let len = 8 + if works { 4096 } else { 0 };
        assert_eq!(content(&journal).unwrap().len(), len);
    }
}

#[test]
fn after_a_failed_flush_of_a_folder_no_handle_acknowledges_anything_in_this_boot() {
    let fs = Arc::new(Faulty::new(MemoryFs::new()));
    let (failing, bystander) = (open_faulty(&fs).unwrap(), open_faulty(&fs).unwrap());
    append(&failing, &[1; 4096]).unwrap();
    let fault = Fault::Fail(io::ErrorKind::Other);
    fs.inject(FaultPlan::Nth { effect: Effect::SyncDir, number: 0, fault });
    // The next append needs another file, whose name cannot be made durable.
    append(&failing, b"next").unwrap_err();
    fs.heal();
    for journal in [&failing, &bystander] {
        for _ in 0..2 {
            assert!(matches!(append(journal, b"x"), Err(JournalError::Wedged { .. })));
        }
    }
    assert!(matches!(open_faulty(&fs), Err(JournalError::Wedged { .. })));
    let next_boot = open_on(&fs.inner().crash_image(CrashPlan::DropUnsynced), FRAGMENT_BYTES);
    assert_eq!(content(&next_boot).unwrap(), [1; 4096]);
    append(&next_boot, b"next").unwrap();
}

#[test]
fn a_crash_while_a_wedge_is_lifted_loses_nothing() {
    let changes = changes_of_script();
    let (mut points, mut lifted) = (0, 0);
    for number in (0..changes).step_by(3) {
        for second in 0.. {
            let fs = Arc::new(Faulty::new(MemoryFs::new()));
            fs.inject(FaultPlan::At { number, fault: Fault::Fail(io::ErrorKind::Other) });
            let told = run(&fs);
            fs.heal();
            let Some(JournalError::Unknown { .. }) = told.error else { break };
            points += 1;
            fs.inject(FaultPlan::At { number: second, fault: Fault::Crash });
            let reopened = open_faulty(&fs);
            let context =
                format!("failure at change {number} of {changes}, crash at change {second} of reopening");
            for image in [
                fs.inner().clone(),
                fs.inner().crash_image(CrashPlan::DropUnsynced),
                fs.inner().crash_image(CrashPlan::Seeded(second)),
            ] {
                let journal = try_open_on(&image, FRAGMENT_BYTES);
                told.check(&journal.unwrap_or_else(|error| panic!("{context}: {error}")), &context);
            }
            if !fs.has_crashed() {
                reopened.unwrap();
                lifted += 1;
                break;
            }
        }
    }
    println!("{points} points, {lifted} lifted");
    assert!(lifted > 10, "{lifted}");
}
