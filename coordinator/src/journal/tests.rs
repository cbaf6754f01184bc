use std::sync::Arc;

use shardfuse_store::memory::Memory;
use shardfuse_store::{Local, Store};

use super::*;

const PLAN: &str = "the plan's digest";

/// Two files of four parts each, one task a file.
fn tasks() -> Vec<Task> {
    let fill = |file| Task { work: Work::Fill { file, first: 0, end: 4 }, after: Vec::new(), affinity: 0, bytes: 4 };
    vec![fill(0), fill(1)]
}

fn piece(task: u32, piece: u32) -> PieceRecord {
    let chaining = Some(blake3::hash(&[task as u8, piece as u8]));
    let store_id = format!("{task}.{piece}");
    PieceRecord { store_id, chaining, worker: Some(7), ..PieceRecord::of_one_byte(task, piece) }
}

fn opened(uploads: &[(u32, &str)]) -> Record {
    Record::Opened {
        boot: None,
        uploads: uploads.iter().map(|(f, u)| (*f, (*u).to_owned())).collect(),
        device_class: None,
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    state: OutputState,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let output = shardfuse_store::Location::at_path(&dir.path().join("out")).unwrap();
        Bench { state: OutputState::of(Arc::new(Local::new()), &output).unwrap(), _dir: dir }
    }

    async fn writer(&self) -> Writer {
        let past = self.state.epochs().await.unwrap().len() as u64;
        Writer::new(self.state.clone(), self.state.take_epoch(PLAN, past).await.unwrap())
    }

    async fn history(&self) -> History {
        History::read(&self.state, PLAN, &tasks(), u64::MAX).await.unwrap()
    }
}

fn keys(history: &History) -> Vec<(u32, u32)> {
    let mut keys: Vec<_> = history.pieces.keys().copied().collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_record_that_was_cut_off_or_damaged_counts_as_missing() {
    let entry = Entry { at: 7, record: Record::Pieces(vec![piece(0, 0)]) };
    let whole = render(&entry);
    assert_eq!(parse(&whole), Some(entry));
    for len in 0..whole.len() {
        assert_eq!(parse(&whole[..len]), None, "cut to {len}");
    }
    let mut damaged = whole.to_vec();
    damaged[3] ^= 1;
    assert_eq!(parse(&damaged), None);
}

/// A third coordinator must not take parts of the first one's upload for parts of the second one's.
#[tokio::test]
async fn a_new_upload_forgets_the_parts_of_the_old_one() {
    let bench = Bench::new();
    let mut first = bench.writer().await;
    first.append(opened(&[(0, "old"), (1, "kept")])).await.unwrap();
    first.append(Record::Pieces(vec![piece(0, 0), piece(0, 1), piece(1, 3)])).await.unwrap();
    let mut second = bench.writer().await;
    second.append(opened(&[(0, "new")])).await.unwrap();
    second.append(Record::Pieces(vec![piece(0, 1)])).await.unwrap();
    let history = bench.history().await;
    assert_eq!((history.uploads[&0].as_str(), history.uploads[&1].as_str()), ("new", "kept"));
    assert_eq!(keys(&history), [(0, 1), (1, 3)]);
}

#[tokio::test]
async fn what_a_stale_coordinator_still_writes_is_read_in_its_place_or_not_at_all() {
    let bench = Bench::new();
    let mut stale = bench.writer().await;
    stale.append(opened(&[(0, "a"), (1, "b")])).await.unwrap();
    let mut next = bench.writer().await;
    next.append(opened(&[(1, "c")])).await.unwrap();
    next.append(Record::Pieces(vec![piece(1, 0)])).await.unwrap();
    // Late receipts: one for an upload that is still the file's, one for an upload that was replaced.
    stale.append(Record::Pieces(vec![piece(0, 2), piece(1, 1)])).await.unwrap();
    let history = bench.history().await;
    assert_eq!(
        keys(&history),
        [(0, 2), (1, 0)],
        "the late part of a live upload counts, that of a replaced one does not"
    );
    assert_eq!(next.check().await.map_err(|e| e.kind()), Ok(()));
    assert_eq!(stale.check().await.map_err(|e| e.kind()), Err(Kind::OutputBusy));
}

#[tokio::test]
async fn a_coordinator_of_an_earlier_state_does_not_count_in_a_new_one() {
    let bench = Bench::new();
    let mut stale = bench.writer().await;
    stale.append(opened(&[(0, "a"), (1, "b")])).await.unwrap();
    bench.state.store.delete_tree(&bench.state.at).await.unwrap();
    let mut next = bench.writer().await;
    next.append(opened(&[(0, "c"), (1, "d")])).await.unwrap();
    assert_eq!(stale.claim.epoch, next.claim.epoch, "both have the same number");
    stale.append(Record::Pieces(vec![piece(0, 0)])).await.unwrap();
    next.append(Record::Pieces(vec![piece(1, 1)])).await.unwrap();
    assert_eq!(bench.state.standing(&stale.claim).await.unwrap(), crate::state::Standing::Gone);
    assert_eq!(bench.state.standing(&next.claim).await.unwrap(), crate::state::Standing::Holds);
    assert_eq!(keys(&bench.history().await), [(1, 1)]);
}

#[tokio::test]
async fn an_upload_that_began_and_was_not_written_down_is_missed() {
    let bench = Bench::new();
    let mut first = bench.writer().await;
    first.append(Record::Opening { files: vec![0, 1] }).await.unwrap();
    first.append(opened(&[(0, "a")])).await.unwrap();
    let mut second = bench.writer().await;
    second.append(Record::Opening { files: vec![1] }).await.unwrap();
    second.append(opened(&[(1, "b")])).await.unwrap();
    let history = bench.history().await;
    assert_eq!(
        history.unknown.into_iter().collect::<Vec<_>>(),
        [1],
        "the second upload of the file does not excuse the first"
    );
    assert_eq!(history.uploads.len(), 2);
}

#[tokio::test]
async fn parts_that_were_dropped_or_lost_do_not_come_back() {
    let bench = Bench::new();
    let mut writer = bench.writer().await;
    writer.append(opened(&[(0, "a"), (1, "b")])).await.unwrap();
    writer.append(Record::Pieces(vec![piece(0, 0), piece(1, 0), piece(1, 1)])).await.unwrap();
    writer.append(Record::Dropped { file: 0 }).await.unwrap();
    writer.append(Record::Lost { pieces: vec![(1, 0)] }).await.unwrap();
    let history = bench.history().await;
    assert_eq!(keys(&history), [(1, 1)]);
    assert_eq!(history.uploads.into_iter().collect::<Vec<_>>(), [(1, "b".to_owned())]);
}

#[tokio::test]
async fn only_the_last_word_says_whether_somebody_works_here() {
    let bench = Bench::new();
    let mut first = bench.writer().await;
    first.append(opened(&[])).await.unwrap();
    assert!(!bench.history().await.closed);
    first.append(Record::Closed {}).await.unwrap();
    assert!(bench.history().await.closed);
    let _second = bench.writer().await;
    assert!(!bench.history().await.closed, "an epoch that was taken is a sign of life");
}

/// Reading ahead must neither leave out nor reorder.
#[tokio::test]
async fn a_long_journal_is_read_whole_and_in_order() {
    let bench = Bench::new();
    let mut writer = bench.writer().await;
    writer.append(opened(&[(0, "a")])).await.unwrap();
    for i in 0..300u32 {
        let mut record = piece(0, i % 4);
        record.epoch = i;
        writer.append(Record::Pieces(vec![record])).await.unwrap();
    }
    let history = bench.history().await;
    let mut epochs: Vec<u32> = history.pieces.values().map(|p| p.epoch).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [296, 297, 298, 299], "the last receipt of a part is the one that counts");
}

/// A read that races an overwrite returns one version's length and another's bytes on some stores.
#[tokio::test]
async fn a_torn_read_of_a_record_is_not_taken_for_the_journals_end() {
    let memory = Arc::new(Memory::new());
    let output = "s3://bucket/out".parse().unwrap();
    let state = OutputState::of(memory.clone(), &output).unwrap();
    let mut writer = Writer::new(state.clone(), state.take_epoch(PLAN, 0).await.unwrap());
    writer.append(opened(&[(0, "a")])).await.unwrap();
    writer.append(Record::Pieces(vec![piece(0, 0)])).await.unwrap();
    writer.append(Record::Pieces(vec![piece(0, 1)])).await.unwrap();
    let second = state.place(&name(&writer.claim, 1)).unwrap();
    let longer = render(&Entry { at: 7, record: Record::Pieces(vec![piece(0, 0), piece(0, 2)]) });
    memory.tear(&second, longer);
    let history = History::read(&state, PLAN, &tasks(), u64::MAX).await.unwrap();
    assert_eq!(keys(&history), [(0, 0), (0, 1), (0, 2)]);
    // The same for the plan and for the epochs.
    let epoch = state.place("epoch/1").unwrap();
    let taken = state.get("epoch/1").await.unwrap().unwrap();
    memory.put(&epoch, taken.slice(..taken.len() - 9)).await.unwrap();
    memory.tear(&epoch, taken);
    assert_eq!(state.taken(1).await.unwrap().unwrap().token, writer.claim.token);
}

#[test]
fn classes_in_the_forms_of_earlier_journals_are_read() {
    for (written, class) in [
        ("cpu", "cpu"),
        ("cuda:90:132:12.8.4", "cuda:sm90:132:12.8.4"),
        ("cuda:8.6:84:120804", "cuda:sm86:84:12.8.4"),
        ("cuda:sm90:132:12.8.4", "cuda:sm90:132:12.8.4"),
        // Once taken from a worker, and in no form that is known.
        ("cuda:next:1:13", "cuda:next:1:13"),
    ] {
        let json =
            format!(r#"{{"at":1,"record":{{"opened":{{"boot":null,"uploads":[],"device_class":"{written}"}}}}}}"#);
        let bytes = [json.as_bytes(), b"\n", blake3::hash(json.as_bytes()).to_hex().as_bytes()].concat();
        let entry = parse(&bytes).unwrap_or_else(|| panic!("{written}"));
        let mut history = History::default();
        history.take(entry.record, &tasks());
        assert_eq!(history.device_class.map(|class| class.to_string()).as_deref(), Some(class));
    }
}
