//! What a broker answers, by calls that the library does not make: claims that are asked of a real one and of the double.
//!
//! *Invariants.* Each claim has a journal of its own, which is empty, on one broker, with snappy fragments of a file store.
//!
//! *Does not* test the library.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::protocol::{
    AppendRequest, AppendResponse, Label, LabelSelector, LabelSet, ReadRequest, ReadResponse, Status,
};

/// Calls of a broker, message by message.
pub(crate) struct Raw {
    address: String,
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

/// What a client sends, and whether it ends its side then.
struct Messages {
    messages: VecDeque<AppendRequest>,
    ends: bool,
}

impl Stream for Messages {
    type Item = AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<AppendRequest>> {
        match self.messages.pop_front() {
            None if !self.ends => Poll::Pending,
            next => Poll::Ready(next),
        }
    }
}

impl Raw {
    /// Calls the broker at an address, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { address: address.to_owned(), runtime, channel }
    }

    /// Appends; returns the answer, or what the call failed with.
    pub(crate) fn append(
        &self,
        messages: impl IntoIterator<Item = AppendRequest>,
        ends: bool,
    ) -> Result<AppendResponse, String> {
        let messages = Messages { messages: messages.into_iter().collect(), ends };
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.unwrap();
            let path = PathAndQuery::from_static("/protocol.Journal/Append");
            let codec = ProstCodec::<AppendRequest, AppendResponse>::default();
            let answered = grpc.client_streaming(Request::new(messages), path, codec).await;
            answered.map(tonic::Response::into_inner).map_err(|status| {
                assert_eq!(status.code(), tonic::Code::Unknown, "{status:?}");
                status.message().to_owned()
            })
        })
    }

    /// Reads until the call ends.
    pub(crate) fn read(&self, request: ReadRequest) -> Result<Vec<ReadResponse>, String> {
        let told = |status: tonic::Status| status.message().to_owned();
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.unwrap();
            let path = PathAndQuery::from_static("/protocol.Journal/Read");
            let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
            let answered = grpc.server_streaming(Request::new(request), path, codec).await;
            let mut answers = answered.map_err(told)?.into_inner();
            let mut all = Vec::new();
            while let Some(answer) = answers.message().await.map_err(told)? {
                all.push(answer);
            }
            Ok(all)
        })
    }
}

impl Raw {
    /// Reads what a journal holds.
    fn content(&self, journal: &str) -> Vec<u8> {
        let request = ReadRequest { journal: journal.into(), ..ReadRequest::default() };
        self.read(request).unwrap().into_iter().flat_map(|answer| answer.content).collect()
    }
}

pub(crate) fn first(journal: &str) -> AppendRequest {
    AppendRequest { journal: journal.into(), ..AppendRequest::default() }
}

fn chunk(content: &[u8]) -> AppendRequest {
    AppendRequest { content: content.to_vec().into(), ..AppendRequest::default() }
}

pub(crate) fn empty() -> AppendRequest {
    AppendRequest::default()
}

fn label(name: &str, value: &str) -> LabelSet {
    LabelSet { labels: vec![Label { name: name.into(), value: value.into(), prefix: false }] }
}

/// A claim about a broker, and a journal of it.
pub(crate) type Claim = fn(&Raw, &str);

/// All of them.
pub(crate) const CLAIMS: &[(&str, Claim)] = &[
    (
        "an append commits only by its empty message and the end of the call",
        an_append_commits_only_by_its_end,
    ),
    (
        "registers are checked before offsets and change only with content",
        registers_are_checked_before_offsets,
    ),
    ("what is not there is a status, and what cannot be asked an error", what_is_not_there_is_a_status),
    ("a read that waits is given what is appended then", a_read_that_waits_is_given_what_is_appended),
    (
        "a read has for each fragment what it is and then its content",
        a_read_has_for_each_fragment_its_content,
    ),
];

fn an_append_commits_only_by_its_end(raw: &Raw, journal: &str) {
    let fails = |messages: Vec<AppendRequest>, ends| raw.append(messages, ends).unwrap_err();
    assert_eq!(fails(vec![], true), "EOF");
    assert_eq!(fails(vec![first(journal), chunk(b"abcd")], true), "append stream: unexpected EOF");
    let slow = "append stream: client stream didn't sustain the minimum append data rate";
    assert_eq!(fails(vec![first(journal), chunk(b"abcd"), empty()], false), slow);
    assert_eq!(fails(vec![first(journal)], false), slow);
    let after = "append stream: expected EOF after empty Content chunk";
    assert_eq!(fails(vec![first(journal), chunk(b"abcd"), empty(), empty()], true), after);
    let bold = AppendRequest { content: b"abcd"[..].into(), ..first(journal) };
    assert_eq!(fails(vec![bold, empty()], true), "unexpected Content");
    let placed = AppendRequest { offset: 4, ..chunk(b"abcd") };
    assert_eq!(fails(vec![first(journal), placed, empty()], true), "append stream: unexpected Offset");
    assert!(raw.content(journal).is_empty());
    let answer = raw.append([first(journal), chunk(b"ab"), chunk(b"cd"), empty()], true).unwrap();
    let commit = answer.commit.unwrap();
    assert_eq!((commit.begin, commit.end, answer.total_chunks), (0, 4, 3));
    // The SHA-1 of `abcd`.
    let sum = commit.sum.unwrap();
    assert_eq!(
        (sum.part1, sum.part2, sum.part3),
        (0x81fe_8bfe_8757_6c3e, 0xcb22_426f_8e57_8473, 0x8291_7acf)
    );
    assert_eq!(raw.content(journal), b"abcd");
}

fn registers_are_checked_before_offsets(raw: &Raw, journal: &str) {
    let with = |union: Option<LabelSet>, check: Option<&str>, offset| AppendRequest {
        union_registers: union,
        check_registers: check
            .map(|value| LabelSelector { include: Some(label("author", value)), exclude: None }),
        offset,
        ..first(journal)
    };
    let nothing = raw.append([with(Some(label("author", "1ui")), None, 0), empty()], true);
    assert_eq!(nothing.unwrap_err(), "append stream: register modification requires non-empty Append");
    // Nothing is set: every check passes.
    let set = raw.append([with(Some(label("author", "1ui")), Some("x"), 0), chunk(b"abcd"), empty()], true);
    assert_eq!(set.unwrap().registers, Some(label("author", "1ui")));
    let mismatch = raw.append([with(None, Some("x"), 99), empty()], true).unwrap();
    assert_eq!(mismatch.status(), Status::RegisterMismatch);
    assert_eq!((mismatch.registers, mismatch.commit), (Some(label("author", "1ui")), None));
    let wrong = raw.append([with(None, Some("1ui"), 99), empty()], true).unwrap();
    assert_eq!(wrong.status(), Status::WrongAppendOffset);
    assert!(wrong.registers.is_none() && wrong.commit.is_none() && wrong.header.is_some());
    let any = raw.append([with(None, Some(""), 4), empty()], true).unwrap();
    assert_eq!((any.status(), any.commit.unwrap().begin, any.total_chunks), (Status::Ok, 4, 1));
    let bad = raw.append([with(Some(label("a", "b")), None, 0), chunk(b"x"), empty()], true).unwrap_err();
    assert!(bad.starts_with("UnionRegisters.Labels[0].Name: invalid length (1;"), "{bad}");
    let bad = raw.append([with(Some(label("author", "a b")), None, 0), chunk(b"x"), empty()], true);
    assert_eq!(bad.unwrap_err(), "UnionRegisters.Labels[0].Value: not a valid token (a b)");
}

fn a_read_has_for_each_fragment_its_content(raw: &Raw, journal: &str) {
    let request = |offset| ReadRequest { journal: journal.into(), offset, ..ReadRequest::default() };
    for offset in [0, -1] {
        let fresh = raw.read(request(offset)).unwrap();
        assert_eq!((fresh.len(), fresh[0].status()), (1, Status::OffsetNotYetAvailable));
        assert_eq!((fresh[0].offset, fresh[0].write_head, fresh[0].header.is_some()), (0, 0, true));
    }
    for content in [&vec![7; 40_000][..], b"abcd"] {
        raw.append([first(journal), chunk(content), empty()], true).unwrap();
    }
    // It is listed when the broker looks into its store again.
    let begun = Instant::now();
    let all = loop {
        let all = raw.read(request(0)).unwrap();
        if !all[0].fragment_url.is_empty() {
            break all;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", all[0]);
        std::thread::sleep(Duration::from_millis(50));
    };
    // The first fragment has rolled and is stored; what is written to is not.
    let is = |answer: &ReadResponse| (answer.offset, answer.content.len(), answer.fragment.is_some());
    let expected = [
        (0, 0, true),
        (0, 32_736, false),
        (32_736, 7_264, false),
        (40_000, 0, true),
        (40_000, 4, false),
        (40_004, 0, false),
    ];
    assert_eq!(all.iter().map(is).collect::<Vec<_>>(), expected);
    let headers: Vec<_> = all.iter().map(|answer| answer.header.is_some()).collect();
    assert_eq!(headers, [true, false, false, false, false, false]);
    let url = format!("file:///{journal}/0000000000000000-0000000000009c40-");
    assert!(all[0].fragment_url.starts_with(&url), "{}", all[0].fragment_url);
    assert_eq!(all[0].fragment_url.rsplit_once('.').unwrap().1, "sz");
    assert!(all[3].fragment_url.is_empty() && all[3].fragment.clone().unwrap().backing_store.is_empty());
    assert_eq!((all[5].status(), all[5].write_head), (Status::OffsetNotYetAvailable, 40_004));
    // The end that is asked for, and no status behind it.
    let some = raw.read(ReadRequest { end_offset: 39_999, ..request(39_990) }).unwrap();
    assert_eq!(some.iter().map(is).collect::<Vec<_>>(), [(39_990, 0, true), (39_990, 9, false)]);
    for (request, count) in [
        (ReadRequest { metadata_only: true, ..request(0) }, 1),
        (ReadRequest { do_not_proxy: true, ..request(0) }, 1),
        (ReadRequest { do_not_proxy: true, ..request(40_000) }, 3),
        (ReadRequest { offset: 50_000, ..request(0) }, 1),
    ] {
        assert_eq!(raw.read(request.clone()).unwrap().len(), count, "{request:?}");
    }
    let past = raw.read(request(50_000)).unwrap();
    assert_eq!((past[0].offset, past[0].write_head), (50_000, 40_004));
    let failed = raw.read(request(-2)).unwrap_err();
    assert_eq!(failed, "invalid Offset (-2; expected -1 <= Offset <= MaxInt64)");
    let failed = raw.read(ReadRequest { end_offset: 30, ..request(50) }).unwrap_err();
    assert_eq!(failed, "invalid EndOffset (30; expected 0 or Offset <= EndOffset)");
}

fn what_is_not_there_is_a_status(raw: &Raw, _journal: &str) {
    let missing = raw.append([first("acme/none"), empty()], true).unwrap();
    assert_eq!((missing.status(), missing.commit), (Status::JournalNotFound, None));
    assert_eq!(missing.header.unwrap().route.unwrap().primary, -1);
    let missing = raw.read(ReadRequest { journal: "acme/none".into(), ..ReadRequest::default() }).unwrap();
    assert_eq!((missing.len(), missing[0].status()), (1, Status::JournalNotFound));
    let failed = raw.append([first("aaa//b"), empty()], true).unwrap_err();
    assert_eq!(failed, "Journal: must be a clean path (aaa//b)");
    let failed = raw.append([first("abc"), empty()], true).unwrap_err();
    assert!(failed.starts_with("Journal: invalid length (3;"), "{failed}");
}

fn a_read_that_waits_is_given_what_is_appended(raw: &Raw, journal: &str) {
    raw.append([first(journal), chunk(b"abcd"), empty()], true).unwrap();
    let waiting = ReadRequest { offset: 4, block: true, end_offset: 8, ..ReadRequest::default() };
    let waiting = ReadRequest { journal: journal.into(), ..waiting };
    let address = raw.address.clone();
    let reader = std::thread::spawn(move || Raw::new(&address).read(waiting).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert!(!reader.is_finished());
    raw.append([first(journal), chunk(b"efgh"), empty()], true).unwrap();
    let answers = reader.join().unwrap();
    assert_eq!(answers.iter().flat_map(|answer| answer.content.to_vec()).collect::<Vec<_>>(), b"efgh");
}
