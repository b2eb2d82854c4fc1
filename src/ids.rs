//! The vocabulary of quantities: sequence numbers, file identities, authors, offsets, checksums and names.
//!
//! *Invariants.* Each quantity is a type of its own, so that a log offset can never be passed for a file
//! offset or a sequence number. An [`Author`] is never zero; an [`Offset`] fits a signed 64-bit integer, as
//! the wire demands; a [`JournalName`] satisfies the naming rules of a Gazette broker.
//!
//! *Does not* know how any of them is written on the wire (`wire`), and never reads a clock or a random
//! source: a random author is made by [`crate::journal::random_author`].

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Position of an operation in the history of a log, counted from 1.
///
/// Zero and negative values can be decoded from a hostile log. They are representable, compare below
/// [`SeqNo::FIRST`], and are rejected by the state machine as a wrong sequence number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SeqNo(i64);

impl SeqNo {
    /// The sequence number of the first operation of a history.
    pub const FIRST: Self = Self(1);

    /// Wraps a sequence number as it stands on the wire.
    pub const fn new(value: i64) -> Self {
        Self(value)
    }

    /// Returns the number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns the number that follows, saturating at the largest one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the number before this one, saturating at the smallest one.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a recorded file: the [`SeqNo`] of the operation that created it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fnode(SeqNo);

impl Fnode {
    /// Names the file created by the operation `seq_no`.
    pub const fn new(seq_no: SeqNo) -> Self {
        Self(seq_no)
    }

    /// Returns the sequence number of the creating operation.
    pub const fn seq_no(self) -> SeqNo {
        self.0
    }

    /// Returns the bare number.
    pub const fn get(self) -> i64 {
        self.0.get()
    }
}

impl From<SeqNo> for Fnode {
    fn from(seq_no: SeqNo) -> Self {
        Self(seq_no)
    }
}

impl fmt::Display for Fnode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of one writer's term; drawn at random when a writer takes over.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Author(NonZeroU32);

impl Author {
    /// Wraps a non-zero author number; `None` for zero, which no writer may use.
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the value of the fencing register that names this author: base 32, digits `0-9a-v`.
    ///
    /// ```
    /// # use recoverylog::Author;
    /// assert_eq!(Author::new(1234).unwrap().register_value(), "16i");
    /// assert_eq!(Author::new(u32::MAX).unwrap().register_value(), "3vvvvvv");
    /// ```
    pub fn register_value(self) -> String {
        let mut digits = Vec::with_capacity(7);
        let mut rest = self.get();
        while rest > 0 {
            let digit = (rest % 32) as u8;
            digits.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
            rest /= 32;
        }
        digits.iter().rev().collect()
    }

    /// Returns the author that a value of the fencing register names; `None` where no author has that value.
    ///
    /// ```
    /// # use recoverylog::Author;
    /// assert_eq!(Author::from_register_value("16i"), Author::new(1234));
    /// assert_eq!(Author::from_register_value("016i"), None);
    /// ```
    pub fn from_register_value(value: &str) -> Option<Self> {
        let author = Self::new(u32::from_str_radix(value, 32).ok()?)?;
        (author.register_value() == value).then_some(author)
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Byte position in the content of a journal, counted from 0; at most `i64::MAX`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Offset(u64);

impl Offset {
    /// The first byte of a journal.
    pub const ZERO: Self = Self(0);
    /// The largest offset that the wire can express.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Wraps an offset; `None` where it does not fit the wire's signed integer.
    pub const fn new(value: u64) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// Wraps an offset as it stands on the wire; `None` where it is negative.
    pub const fn from_wire(value: i64) -> Option<Self> {
        if value < 0 { None } else { Some(Self(value as u64)) }
    }

    /// Returns the number of bytes before this position.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the offset in the wire's signed form.
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// Returns the position `bytes` further on, or `None` past [`Offset::MAX`].
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(value) => Self::new(value),
            None => None,
        }
    }

    /// Returns the position `bytes` further on, saturating at [`Offset::MAX`].
    pub const fn saturating_add(self, bytes: u64) -> Self {
        match self.checked_add(bytes) {
            Some(offset) => offset,
            None => Self::MAX,
        }
    }

    /// Returns the number of bytes from `earlier` to here, zero where `earlier` is not earlier.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Running CRC-32C (Castagnoli) over the frame payloads of a history.
///
/// Each operation carries the value as it was *before* that operation, so that a reader can tell whether the
/// operation continues the history it has read.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Checksum(u32);

impl Checksum {
    /// The value before the first operation.
    pub const ZERO: Self = Self(0);

    /// Wraps a checksum.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the value after `payload`, the frame's content without its header.
    ///
    /// ```
    /// # use recoverylog::Checksum;
    /// assert_eq!(Checksum::ZERO.extend(b"123456789").get(), 0xe306_9283);
    /// ```
    #[must_use]
    pub fn extend(self, payload: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, payload))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({:08x})", self.0)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Name of a journal, as a Gazette broker accepts it; cheap to clone.
///
/// 4 to 512 characters of `A-Z a-z 0-9 - _ + / . = %`, in cleaned form: no leading or trailing slash and no
/// `.`, `..` or empty component. It is therefore safe to use as a relative path.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct JournalName(Arc<str>);

impl JournalName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| InvalidName { name: name.chars().take(600).collect(), rule };
        if name.len() < 4 || name.len() > 512 {
            return Err(invalid("a journal name has 4 to 512 characters"));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+/.=%".contains(&b)) {
            return Err(invalid("a journal name has only letters, digits and - _ + / . = %"));
        }
        if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(invalid("a journal name is a clean relative path"));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JournalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for JournalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for JournalName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

/// A string that is not a journal name.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct InvalidName {
    /// The refused string, cut to 600 characters.
    pub name: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a journal name: {}", self.name, self.rule)
    }
}

impl std::error::Error for InvalidName {}

/// Path of a recorded file: bytes, below the recorded directory.
///
/// Any byte string can be decoded from a log; [`LogPath::check`] tells whether this one is rooted, clean and
/// may be used below a directory. The recorder only ever writes paths that pass.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogPath(Arc<[u8]>);

impl LogPath {
    /// Wraps the bytes of a path, unchecked.
    pub fn from_bytes(path: &[u8]) -> Self {
        Self(path.into())
    }

    /// Roots and cleans `path`: one leading slash, no empty and no `.` components.
    ///
    /// # Errors
    /// [`InvalidPath`] where the path holds a `..` component or a NUL byte, or names no file.
    pub fn rooted(path: &[u8]) -> Result<Self, InvalidPath> {
        let mut clean = Vec::with_capacity(path.len() + 1);
        for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".") {
            clean.push(b'/');
            clean.extend_from_slice(part);
        }
        let path = Self(clean.into());
        path.check()?;
        Ok(path)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Checks that the path is rooted, clean, and cannot leave the directory it is used below.
    ///
    /// # Errors
    /// [`InvalidPath`] names the rule that is broken.
    pub fn check(&self) -> Result<(), InvalidPath> {
        let invalid = |rule| Err(InvalidPath { path: self.clone(), rule });
        let Some(rest) = self.0.strip_prefix(b"/") else {
            return invalid("a recorded path begins with a slash");
        };
        if self.0.len() > PATH_BYTES_MAX {
            return invalid("a recorded path has at most 4,096 bytes");
        }
        for part in rest.split(|&b| b == b'/') {
            match part {
                b"" => return invalid("a recorded path has no empty component and names a file"),
                b"." | b".." => return invalid("a recorded path has no `.` or `..` component"),
                _ if part.contains(&0) => return invalid("a recorded path has no NUL byte"),
                _ if part.len() > NAME_BYTES_MAX => {
                    return invalid("a component of a recorded path has at most 255 bytes");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells whether the path is, or lies in, the folder that recorders and players keep for themselves: no file of a
    /// user is recorded there, and a player hides what is.
    pub(crate) fn is_reserved(&self) -> bool {
        self.components().next() == Some(RESERVED.as_bytes())
    }

    /// Returns the path without its leading slash, for joining below a directory.
    pub fn relative(&self) -> &[u8] {
        self.0.strip_prefix(b"/").unwrap_or(&self.0)
    }

    /// Returns the components of the path.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.relative().split(|&b| b == b'/')
    }
}

/// Folder of a recorded tree that recorders and players keep for themselves, relative to its root.
pub(crate) const RESERVED: &str = ".recoverylog";

/// The longest recorded path, as Linux's `PATH_MAX`.
const PATH_BYTES_MAX: usize = 4096;
/// The longest component, as Linux's `NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

impl fmt::Debug for LogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for LogPath {
    /// Shows valid UTF-8 as it is and escapes every other byte and control character.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    fmt::Write::write_char(f, c)?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// A path that may not be recorded, or not be played.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct InvalidPath {
    /// The refused path.
    pub path: LogPath,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is refused: {}", self.path, self.rule)
    }
}

impl std::error::Error for InvalidPath {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_values_are_base_32() {
        for (author, value) in
            [(1234, "16i"), (1337, "19p"), (5678, "5he"), (10, "a"), (9, "9"), (u32::MAX, "3vvvvvv")]
        {
            assert_eq!(Author::new(author).unwrap().register_value(), value);
            assert_eq!(Author::from_register_value(value), Author::new(author));
        }
        for value in ["", "0", "+9", "A", "4000000", "w"] {
            assert_eq!(Author::from_register_value(value), None, "{value}");
        }
        assert_eq!(Author::new(0), None);
    }

    #[test]
    fn journal_names_are_clean_relative_paths() {
        for name in ["acme/orders-007", "a.b=c%/d+e_f", "abcd"] {
            assert!(JournalName::new(name).is_ok(), "{name}");
        }
        for name in ["", "abc", "/abc", "abc/", "a//bc", "a/../b", "./abc", "abc;meta", "ab cd", "a/\u{e9}/b"]
        {
            assert!(JournalName::new(name).is_err(), "{name}");
        }
        assert!(JournalName::new(&"a".repeat(513)).is_err());
    }

    #[test]
    fn paths_that_could_leave_the_directory_are_refused() {
        for path in ["", "/", "a", "/a/", "//a", "/../a", "/a/..", "/a/./b", "/a\0b"] {
            assert!(LogPath::from_bytes(path.as_bytes()).check().is_err(), "{path:?}");
        }
        assert!(LogPath::from_bytes(format!("/{}", "a".repeat(256)).as_bytes()).check().is_err());
        for path in [&b"/a"[..], b"/a/b", b"/\xff\xfe/..a", b"/.fnodes/1"] {
            assert!(LogPath::from_bytes(path).check().is_ok(), "{path:?}");
        }
    }

    #[test]
    fn recorded_paths_are_rooted_and_cleaned() {
        assert_eq!(LogPath::rooted(b"a//b/./c").unwrap().as_bytes(), b"/a/b/c");
        assert_eq!(LogPath::rooted(b"/a/").unwrap().as_bytes(), b"/a");
        assert!(LogPath::rooted(b"a/../b").is_err());
        assert!(LogPath::rooted(b"").is_err());
    }

    #[test]
    fn quantities_saturate_at_their_bounds() {
        let (last, first) = (SeqNo::new(i64::MAX), SeqNo::new(i64::MIN));
        assert_eq!((last.next(), first.previous()), (last, first));
        assert_eq!((SeqNo::FIRST.next().get(), SeqNo::FIRST.previous().get()), (2, 0));
        assert_eq!((Offset::new(1 << 63), Offset::new((1 << 63) - 1)), (None, Some(Offset::MAX)));
        assert_eq!((Offset::from_wire(-1), Offset::from_wire(0)), (None, Some(Offset::ZERO)));
        let ten = Offset::new(10).unwrap();
        assert_eq!((ten.checked_add(5), Offset::MAX.checked_add(1)), (Offset::new(15), None));
        assert_eq!((ten.checked_add(u64::MAX), Offset::MAX.saturating_add(1)), (None, Offset::MAX));
        assert_eq!((ten.bytes_since(Offset::new(7).unwrap()), ten.bytes_since(Offset::MAX)), (3, 0));
        assert_eq!((Offset::MAX.to_wire(), Fnode::from(SeqNo::FIRST).get()), (i64::MAX, 1));
    }

    #[test]
    fn quantities_are_shown_as_people_read_them() {
        let shown = [
            SeqNo::new(-3).to_string(),
            Fnode::new(SeqNo::new(4)).to_string(),
            Author::new(5).unwrap().to_string(),
            Offset::MAX.to_string(),
            Checksum::new(0xab).to_string(),
            format!("{:?}", Checksum::new(0xab)),
            JournalName::new("a/log").unwrap().to_string(),
            format!("{:?}", JournalName::new("a/log").unwrap()),
            LogPath::from_bytes(b"/\xc3\xa9\xff\n\\b").to_string(),
            format!("{:?}", LogPath::from_bytes(b"/\xc3\xa9")),
        ];
        let expected = [
            "-3",
            "4",
            "5",
            "9223372036854775807",
            "000000ab",
            "Checksum(000000ab)",
            "a/log",
            "\"a/log\"",
            "/\u{e9}\\xff\\n\\\\b",
            "\"/\\xc3\\xa9\"",
        ];
        assert_eq!(shown, expected);
        let name = JournalName::new("a;b!").unwrap_err();
        assert_eq!(
            name.to_string(),
            "\"a;b!\" is not a journal name: a journal name has only letters, digits and - _ + / . = %"
        );
        let path = LogPath::rooted(b"/a/../b").unwrap_err();
        assert_eq!(path.to_string(), "\"/a/../b\" is refused: a recorded path has no `.` or `..` component");
    }

    #[test]
    fn names_and_paths_are_as_long_as_their_bounds() {
        assert!(JournalName::new(&"a".repeat(512)).is_ok());
        let cut = JournalName::new(&"a".repeat(1000)).unwrap_err();
        assert_eq!(cut.name.len(), 600);
        let name = |bytes: usize| format!("/{}", "a".repeat(bytes));
        assert!(LogPath::from_bytes(name(255).as_bytes()).check().is_ok());
        let longest = LogPath::from_bytes(name(127).repeat(32).as_bytes());
        assert_eq!((longest.as_bytes().len(), longest.check()), (4096, Ok(())));
        assert!(LogPath::from_bytes(format!("{longest}b").as_bytes()).check().is_err());
        assert_eq!(longest.components().count(), 32);
        let reserved = [&b"/.recoverylog"[..], b"/.recoverylog/a", b"/.recoverylogs", b"/a/.recoverylog"];
        let reserved = reserved.map(|path| LogPath::from_bytes(path).is_reserved());
        assert_eq!(reserved, [true, true, false, false]);
        let path = LogPath::from_bytes(b"/a/b");
        assert_eq!((path.relative(), path.components().next_back()), (&b"a/b"[..], Some(&b"b"[..])));
    }
}
