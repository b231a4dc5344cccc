//! Watches the bytes of an answer's head as they are read, for what hyper lets through or hides: its
//! size, its line ends, and how many interim answers stand before it.

/// Follows one answer from its first byte to the end of its head.
#[derive(Debug)]
pub(super) struct HeadWatch {
    bytes_left: usize,
    interims_left: u32,
    /// Bytes of the status line seen, up to [`STATUS_LINE_BYTES`].
    line: [u8; STATUS_LINE_BYTES],
    at: usize,
    /// Bytes of the current line, without its end.
    in_line: usize,
    after_cr: bool,
    is_done: bool,
    /// It was a 101.
    has_switched: bool,
}

impl HeadWatch {
    /// For the next answer.
    pub(super) fn new(head_bytes_max: usize) -> HeadWatch {
        HeadWatch {
            bytes_left: head_bytes_max,
            interims_left: INTERIMS_MAX,
            line: [0; STATUS_LINE_BYTES],
            at: 0,
            in_line: 0,
            after_cr: false,
            is_done: false,
            has_switched: false,
        }
    }

    /// Whether the head was a 101: what follows is no HTTP, if that was asked for.
    pub(super) fn has_switched(&self) -> bool {
        self.has_switched
    }

    /// Takes the next bytes; an error says why the answer is refused.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for byte in bytes {
            if self.is_done {
                return Ok(());
            }
            self.bytes_left =
                self.bytes_left.checked_sub(1).ok_or("the head of the answer is too large")?;
            self.byte(*byte)?;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), &'static str> {
        match (self.after_cr, byte) {
            (true, b'\n') => {
                self.after_cr = false;
                return self.end_line();
            }
            (true, _) => return Err("CR without LF in the head of the answer"),
            (false, b'\n') => return Err("LF without CR in the head of the answer"),
            (false, b'\r') => self.after_cr = true,
            (false, _) => {
                if self.at < STATUS_LINE_BYTES {
                    self.line[self.at] = byte;
                    self.at += 1;
                }
                self.in_line += 1;
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), &'static str> {
        // The first line must have been a status line, whole.
        let status = self.status().ok_or("the answer does not begin with an HTTP/1 status line")?;
        if self.in_line > 0 {
            self.in_line = 0;
            return Ok(());
        }
        if status[0] != b'1' || status == b"101" {
            self.has_switched = status == b"101";
            self.is_done = true;
            return Ok(());
        }
        self.interims_left = self.interims_left.checked_sub(1).ok_or("too many interim answers")?;
        self.at = 0;
        Ok(())
    }

    fn status(&self) -> Option<&[u8]> {
        let line = self.line.get(..self.at)?;
        let is_ours = line.starts_with(b"HTTP/1.1 ") || line.starts_with(b"HTTP/1.0 ");
        line.get(9..12).filter(|status| is_ours && status.iter().all(u8::is_ascii_digit))
    }
}

/// `HTTP/1.1 200`.
const STATUS_LINE_BYTES: usize = 12;
/// Interim answers (1xx) before a final one; they are dropped.
const INTERIMS_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<bool, &'static str> {
        // Whole, and byte by byte: the same.
        let mut whole = HeadWatch::new(1000);
        let result = whole.take(text.as_bytes()).map(|()| whole.is_done);
        let mut split = HeadWatch::new(1000);
        let apart = text.as_bytes().chunks(1).try_for_each(|byte| split.take(byte));
        assert_eq!(apart.map(|()| split.is_done), result);
        result
    }

    #[test]
    fn the_head_ends_where_it_ends() {
        assert_eq!(take("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\nwith anything"), Ok(true));
        assert_eq!(take("HTTP/1.0 404\r\n\r\n"), Ok(true));
        assert_eq!(take("HTTP/1.1 101 Switching\r\n\r\n"), Ok(true));
        assert_eq!(take("HTTP/1.1 200 OK\r\nA: b\r\n"), Ok(false));
        assert_eq!(take("HTTP/1.1 103 Hints\r\nA: b\r\n\r\n"), Ok(false));
        assert_eq!(take("HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), Ok(true));
    }

    #[test]
    fn what_hyper_would_let_through_is_refused() {
        for bad in [
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/0.9 200 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "<html>\r\n",
        ] {
            assert!(take(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interims_and_bytes_are_bounded() {
        let interims = |n: usize| "HTTP/1.1 100 Go on\r\n\r\n".repeat(n) + "HTTP/1.1 200\r\n\r\n";
        assert_eq!(take(&interims(16)), Ok(true));
        assert_eq!(take(&interims(17)), Err("too many interim answers"));
        let head = |n: usize| format!("HTTP/1.1 200\r\nA: {}\r\n\r\n", "a".repeat(n - 21));
        assert_eq!(take(&head(1000)), Ok(true));
        assert!(take(&head(1001)).is_err());
    }
}
