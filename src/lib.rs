//! Durable, movable directories for embedded storage engines.

pub mod clock;
pub mod completion;
mod entropy;
mod error;
pub mod fsm;
pub mod hint_store;
pub mod hints;
mod ids;
pub mod journal;
mod op;
pub mod player;
pub(crate) mod prng;
pub mod recorded_fs;
pub mod recorder;
pub mod replica;
pub mod scan;
pub mod segment;
pub mod tracker;
pub mod vfs;
pub mod wire;

pub use clock::{Clock, Deadline, SystemClock};
pub use error::{Error, ErrorKind, Result};
pub use fsm::{Fsm, FsmOptions};
pub use hints::FsmHints;
pub use ids::{Author, Checksum, Fnode, InvalidName, InvalidPath, JournalName, LogPath, Offset, SeqNo};
pub use op::{Mark, OpBody, Payload, RecordedOp};
pub use recorded_fs::RecordedFs;
pub use recorder::{Recorder, RecorderOptions};
pub use replica::Replica;
pub use segment::{Segment, SegmentSet};
pub use tracker::Tracker;
