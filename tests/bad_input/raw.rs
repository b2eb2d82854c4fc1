//! Logs with any bytes in them: messages field by field, in frames with a good chain.

use recoverylog::Checksum;

const MAGIC: [u8; 4] = [0x66, 0x33, 0x93, 0x36];

pub(crate) const AUTHOR: u32 = 1234;

/// A message of protobuf under construction.
#[derive(Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    fn key(mut self, field: u32, wire_type: u32) -> Self {
        self.put(u64::from(field << 3 | wire_type));
        self
    }

    fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn number(self, field: u32, value: i64) -> Self {
        let mut this = self.key(field, 0);
        this.put(value as u64);
        this
    }

    pub(crate) fn fixed(self, field: u32, value: u32) -> Self {
        let mut this = self.key(field, 5);
        this.0.extend_from_slice(&value.to_le_bytes());
        this
    }

    pub(crate) fn bytes(self, field: u32, value: &[u8]) -> Self {
        let mut this = self.key(field, 2);
        this.put(value.len() as u64);
        this.0.extend_from_slice(value);
        this
    }

    pub(crate) fn inner(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// What an operation does, by its member.
pub(crate) fn create(path: &[u8]) -> Message {
    Message::default().inner(4, &Message::default().bytes(1, path))
}

pub(crate) fn link(fnode: i64, path: &[u8]) -> Message {
    Message::default().inner(5, &Message::default().number(1, fnode).bytes(2, path))
}

pub(crate) fn write(fnode: i64, offset: i64, length: i64) -> Message {
    let write = Message::default().number(1, fnode).number(2, offset).number(3, length);
    Message::default().inner(7, &write)
}

pub(crate) fn property(path: &[u8], content: &[u8]) -> Message {
    Message::default().inner(8, &Message::default().bytes(1, path).bytes(2, content))
}

/// A log under construction.
#[derive(Clone)]
pub(crate) struct RawLog {
    pub(crate) content: Vec<u8>,
    /// Where each operation begins.
    pub(crate) begins: Vec<usize>,
    /// The checksum of the history before each operation.
    pub(crate) checksums: Vec<Checksum>,
    pub(crate) author: u32,
    next_seq_no: i64,
    checksum: Checksum,
}

impl RawLog {
    pub(crate) fn new() -> Self {
        let (content, begins, checksums) = (Vec::new(), Vec::new(), Vec::new());
        Self { content, begins, checksums, author: AUTHOR, next_seq_no: 1, checksum: Checksum::ZERO }
    }

    /// Returns the beginning of a log that is in order: file 1 at `/kept`, with content.
    pub(crate) fn with_a_file() -> Self {
        let mut log = Self::new();
        let kept = log.op(&create(b"/kept"), b"");
        log.op(&write(kept, 0, 4), b"kept");
        log
    }

    /// Appends an operation that continues the history; returns its sequence number.
    pub(crate) fn op(&mut self, member: &Message, payload: &[u8]) -> i64 {
        let seq_no = self.next_seq_no;
        let head = Message::default().number(1, seq_no).fixed(2, self.checksum.get()).fixed(3, self.author);
        let message = [head.0, member.0.clone()].concat();
        self.frame(&message);
        self.content.extend_from_slice(payload);
        self.checksum = self.checksum.extend(&message);
        self.next_seq_no += 1;
        seq_no
    }

    /// Appends a frame that is no part of the history.
    pub(crate) fn frame(&mut self, message: &[u8]) {
        self.begins.push(self.content.len());
        self.checksums.push(self.checksum);
        self.header(message.len() as u32);
        self.content.extend_from_slice(message);
    }

    pub(crate) fn header(&mut self, promised: u32) {
        self.content.extend_from_slice(&MAGIC);
        self.content.extend_from_slice(&promised.to_le_bytes());
    }
}
