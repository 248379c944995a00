use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::log::testing::{Memory, WAIT, clock};

/// Answers each write as scripted, and takes everything once the script is over.
struct Scripted {
    script: VecDeque<io::Result<usize>>,
    memory: Memory,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.script.pop_front().unwrap_or(Ok(bytes.len()))?;
        self.memory.write_all(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn scripted(script: Vec<io::Result<usize>>) -> (LineWriter, Memory) {
    let memory = Memory::default();
    let out = Scripted { script: script.into(), memory: memory.clone() };
    (LineWriter::stream("test", out, clock()).unwrap(), memory)
}

/// Blocks in its first write until told to go on, as a full pipe does.
struct Stuck {
    go: Receiver<()>,
    memory: Memory,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.go.recv();
        self.memory.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_arrive_in_order_by_either_way() {
    let (writer, memory) = scripted(Vec::new());
    let mut expected = String::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    for n in 0..5_000 {
        let line = format!("line {n}\n");
        expected.push_str(&line);
        if n % 3 == 0 {
            writer.append(line.as_bytes());
        } else {
            buffer.extend_from_slice(line.as_bytes());
            writer.hand_over(&mut buffer);
            assert!(buffer.is_empty());
        }
    }
    assert!(writer.drain(WAIT));
    assert_eq!(memory.text(), expected);
    assert_eq!(writer.dropped(), 0);
}

#[test]
fn a_stuck_reader_costs_lines_but_never_blocks() {
    let (go, stuck) = channel();
    let memory = Memory::default();
    let out = Stuck { go: stuck, memory: memory.clone() };
    let writer = LineWriter::stream("test", out, clock()).unwrap();
    let line = [b'x'; 1023];
    let mut sent = 0_u64;
    // More than can wait and be on its way: each call must return although nothing is read.
    while writer.dropped() < 100 {
        let mut lines = Vec::with_capacity(BUFFER);
        for _ in 0..10 {
            lines.extend_from_slice(&line);
            lines.push(b'\n');
        }
        sent += 10;
        assert!(sent * 1024 < 10 * (QUEUE * BUFFER) as u64, "the queue has no bound");
        writer.hand_over(&mut lines);
        assert!(lines.is_empty());
    }
    assert!(!writer.drain(Duration::ZERO));
    drop(go);
    assert!(writer.drain(WAIT));
    assert_eq!(memory.text().lines().count() as u64, sent - writer.dropped());
    let before = writer.dropped();
    writer.append(b"after\n");
    assert!(writer.drain(WAIT));
    assert!(memory.text().ends_with("\nafter\n"));
    assert_eq!(writer.dropped(), before);
}

#[test]
fn a_full_disk_costs_lines_only() {
    let writer = LineWriter::file("test", Path::new("/dev/full"), clock()).unwrap();
    writer.append(b"one\ntwo\n");
    assert!(writer.drain(WAIT));
    assert_eq!(writer.dropped(), 2);
    writer.append(b"three\n");
    assert!(writer.drain(WAIT));
    assert_eq!(writer.dropped(), 3);
}

#[test]
fn a_reader_that_went_away_costs_lines_only() {
    let (reader, pipe) = io::pipe().unwrap();
    drop(reader);
    let writer = LineWriter::stream("test", pipe, clock()).unwrap();
    writer.append(b"one\n");
    assert!(writer.drain(WAIT));
    assert_eq!(writer.dropped(), 1);
}

#[test]
fn half_a_line_is_not_glued_to_the_next() {
    let full = || Err(io::Error::from(ErrorKind::StorageFull));
    let (writer, memory) = scripted(vec![Ok(7), full(), full()]);
    writer.append(b"one\ntwo\nthree\n");
    assert!(writer.drain(WAIT));
    assert_eq!((memory.text().as_str(), writer.dropped()), ("one\ntwo", 2));
    writer.append(b"four\n");
    assert!(writer.drain(WAIT));
    assert_eq!((memory.text().as_str(), writer.dropped()), ("one\ntwo", 3));
    writer.append(b"five\n");
    assert!(writer.drain(WAIT));
    assert_eq!((memory.text().as_str(), writer.dropped()), ("one\ntwo\nfive\n", 3));
}

#[test]
fn interruptions_and_short_pauses_lose_nothing() {
    let (writer, memory) = scripted(vec![
        Err(ErrorKind::Interrupted.into()),
        Ok(1),
        Err(ErrorKind::WouldBlock.into()),
        Ok(2),
    ]);
    writer.append(b"a line\n");
    assert!(writer.drain(WAIT));
    assert_eq!((memory.text().as_str(), writer.dropped()), ("a line\n", 0));
}

#[test]
fn what_was_taken_is_written_after_the_last_handle_is_gone() {
    let (reader, pipe) = io::pipe().unwrap();
    let writer = LineWriter::stream("test", pipe, clock()).unwrap();
    let copy = writer.clone();
    writer.append(b"one\n");
    drop(writer);
    copy.append(b"two\n");
    drop(copy);
    // The end of the pipe shows that the thread has ended, too.
    assert_eq!(io::read_to_string(reader).unwrap(), "one\ntwo\n");
}

#[test]
fn a_file_is_appended_to_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    for line in [b"one\n", b"two\n"] {
        let writer = LineWriter::file("test", &path, clock()).unwrap();
        writer.append(line);
        assert!(writer.drain(WAIT));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

#[test]
fn a_reopen_that_fails_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let writer = LineWriter::file("test", &logs.join("x.log"), clock()).unwrap();
    let moved = dir.path().join("moved");
    std::fs::rename(&logs, &moved).unwrap();
    writer.reopen();
    writer.append(b"still here\n");
    assert!(writer.drain(WAIT));
    assert_eq!(std::fs::read_to_string(moved.join("x.log")).unwrap(), "still here\n");
    assert_eq!(writer.dropped(), 0);
}
