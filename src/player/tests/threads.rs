//! Claims about plays that are stopped, and whose threads die.

use std::io;

use bytes::Bytes;

use super::*;
use crate::ids::SeqNo;
use crate::vfs::{File, LockMode, Metadata, SharedWords};

#[test]
fn a_play_that_is_stopped_ends_and_leaves_nothing() {
    let journals = memory();
    let recorder = take_over(&journals, 1, RecorderOptions::default());
    (0..20).for_each(|number| create(&recorder, &format!("/{number}")));
    recorder.barrier().unwrap().wait(soon()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let progress: ProgressCallback = {
        let stop = Arc::clone(&stop);
        Arc::new(move |_| stop.store(true, Ordering::Relaxed))
    };
    let options = PlayOptions { parallelism: 1, progress: Some(progress), ..PlayOptions::default() };
    let fs = Arc::new(MemoryFs::new());
    let files = Arc::<MemoryFs>::clone(&fs);
    let player = Player::new(&journals, &whole(), files, Path::new("/played"), options).unwrap();
    let stopped = player.stopped_by(&stop).restore().unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Unavailable);
    assert!(fs.read_dir(Path::new("/")).unwrap().is_empty());
}

/// A journal whose readers kill the thread that opens them.
#[derive(Debug)]
struct Deadly(Arc<dyn Journal>);

impl Journals for Deadly {
    fn open(&self, _name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new(Self(Arc::clone(&self.0))))
    }

    fn list(&self) -> Result<Vec<JournalName>> {
        Ok(vec![log()])
    }
}

impl Journal for Deadly {
    fn name(&self) -> &JournalName {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.0.submit(append)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.0.head(deadline)
    }

    fn read(&self, _range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        panic!("a test")
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.0.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.0.prune(fragments, deadline)
    }
}

#[test]
fn a_thread_that_dies_while_it_fetches_ends_the_play() {
    let journals = memory();
    create(&take_over(&journals, 1, RecorderOptions::default()), "/file");
    let deadly = Deadly(journals.open(&log()).unwrap());
    let options = PlayOptions { parallelism: 3, ..PlayOptions::default() };
    let fs = Arc::new(MemoryFs::new());
    let player = Player::new(&deadly, &whole(), fs, Path::new("/played"), options).unwrap();
    let died = player.restore().unwrap_err();
    assert!(died.to_string().contains("a thread that fetches has ended"), "{died}");
}

/// A file that kills the thread that writes to it.
#[derive(Debug)]
struct DeadlyFile;

impl File for DeadlyFile {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<usize> {
        panic!("a test")
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock(&self, _mode: LockMode) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn map_shared(&self, _words: usize) -> io::Result<Arc<dyn SharedWords>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[test]
fn a_thread_that_dies_while_it_writes_ends_the_play() {
    let mut writers = Writers::start(2).unwrap();
    let write = |number| Write {
        fnode: Fnode::new(SeqNo::new(2 * number)),
        file: Arc::new(DeadlyFile),
        offset: 0,
        pieces: vec![Bytes::from(vec![7; 200 << 10])],
        crc32c: None,
        seq_no: SeqNo::new(number),
        at: Offset::ZERO,
    };
    // More than the thread takes before it dies, and more than the budget.
    let written = (1..400).try_for_each(|number| writers.write(&log(), write(number)));
    let died = written.and_then(|()| writers.drain()).unwrap_err();
    assert!(died.to_string().contains("a thread that writes has ended"), "{died}");
}
