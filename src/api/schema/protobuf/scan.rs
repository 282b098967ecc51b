//! Walks over JSON text value by value and makes nothing of it: what is stored is sent in another form without being decoded.
//!
//! Called by `write`. **Invariants**: no text, however wrong, makes it panic or run past its end.

use std::borrow::Cow;

/// A place in a JSON text.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The first byte of what comes next.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Takes this byte if it comes next.
    fn take(&mut self, wanted: u8) -> bool {
        let is_next = self.peek() == Some(wanted);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, wanted: u8) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(self.wrong()) }
    }

    fn wrong(&self) -> String {
        format!("the JSON text is wrong at byte {}", self.at)
    }

    /// Takes a `null` if it comes next.
    pub(super) fn null(&mut self) -> bool {
        let is_null = self.peek() == Some(b'n');
        if is_null {
            self.at = self.text.len().min(self.at + 4);
        }
        is_null
    }

    /// Takes an object: `each` gets the name of every member, and takes its value.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.expect(b':')?;
            each(self, &name)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Takes a list: `each` takes every item.
    pub(super) fn list(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Takes a string: its UTF-8 bytes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, String> {
        let (inner, has_escapes) = self.string_text()?;
        if !has_escapes {
            return Ok(Cow::Borrowed(inner));
        }
        let quoted = [b"\"", inner, b"\""].concat();
        let text: String = serde_json::from_slice(&quoted).map_err(|err| err.to_string())?;
        Ok(Cow::Owned(text.into_bytes()))
    }

    /// Takes a string: what stands between its quotes, and whether there are escapes in it.
    fn string_text(&mut self) -> Result<(&'a [u8], bool), String> {
        self.expect(b'"')?;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            self.at += memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| self.wrong())?;
            if self.text[self.at] == b'"' {
                let inner = &self.text[start..self.at];
                self.at += 1;
                return Ok((inner, has_escapes));
            }
            has_escapes = true;
            self.at += 2;
        }
    }

    /// Takes a number, `true`, `false` or `null`: its text.
    pub(super) fn word(&mut self) -> Result<&'a str, String> {
        let start = match self.peek() {
            Some(_) => self.at,
            None => return Err(self.wrong()),
        };
        let rest = &self.text[start..];
        let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[' | b' ' | b'\n' | b'\r' | b'\t');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.wrong());
        }
        self.at += length;
        std::str::from_utf8(&rest[..length]).map_err(|_| self.wrong())
    }

    /// Takes a value: its text.
    pub(super) fn raw(&mut self) -> Result<&'a [u8], String> {
        self.peek();
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or_else(|| self.wrong())? {
                b'"' => drop(self.string_text()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or_else(|| self.wrong())?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => drop(self.word()?),
            }
            if depth == 0 {
                return Ok(&self.text[start..self.at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_one_by_one() {
        let mut scan = Scan::new(br#" {"a" : [1, {"x":"}\""}], "b\u00e9":null,"c":{} ,"d":"q\\"} "#);
        let mut seen = Vec::new();
        scan.object(|scan, name| {
            let raw = if scan.null() { b"-" } else { scan.raw()? };
            seen.push(format!("{} {}", String::from_utf8_lossy(name), String::from_utf8_lossy(raw)));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [r#"a [1, {"x":"}\""}]"#, "b\u{e9} -", "c {}", r#"d "q\\""#]);
        assert_eq!(scan.peek(), None);
        let mut numbers = Vec::new();
        let mut list = Scan::new(b"[1 ,-2.5e3,true]");
        list.list(|scan| scan.word().map(|word| numbers.push(word.to_owned()))).unwrap();
        assert_eq!(numbers, ["1", "-2.5e3", "true"]);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{\"a\"", "{\"a\":", "{\"a\":}", "[1", "\"a", "\"a\\", "}", "[}", "{\"a\":1,}", "nul"] {
            let taken = Scan::new(text.as_bytes()).object(|scan, _| scan.raw().map(drop));
            assert!(taken.is_err(), "{text}");
            let all = Scan::new(text.as_bytes()).raw();
            assert!(
                all.is_err() || text == "nul" || text == "[}" || text == "{\"a\":}" || text == "{\"a\":1,}",
                "{text}"
            );
        }
    }
}
