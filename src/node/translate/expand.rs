//! `$(NAME)` in commands, arguments and variables. Pure.
//! **Source**: `third_party/forked/golang/expansion/expand.go`, v1.37.

/// The text would be longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Replaces every `$(NAME)` that `lookup` knows; `$$` is a dollar sign; anything else stays. It stops as soon as the text is longer
/// than `bytes_max`, so that references to references never grow beyond it, and reads each byte of the input once.
pub(super) fn expand<'a>(
    text: &str,
    bytes_max: usize,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, TooLong> {
    let mut out = Bounded { text: String::with_capacity(text.len().min(bytes_max)), bytes_max };
    let last_end = text.rfind(')');
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push(&rest[..at])?;
        let after = &rest[at + 1..];
        let is_closed = last_end.is_some_and(|end| text.len() - after.len() < end);
        let reference = after.strip_prefix('(').filter(|_| is_closed).and_then(|inner| inner.split_once(')'));
        rest = if let Some(escaped) = after.strip_prefix('$') {
            out.push("$")?;
            escaped
        } else if let Some((name, tail)) = reference {
            match lookup(name) {
                Some(value) => out.push(value)?,
                None => ["$(", name, ")"].into_iter().try_for_each(|part| out.push(part))?,
            }
            tail
        } else {
            out.push("$")?;
            after
        };
    }
    out.push(rest)?;
    Ok(out.text)
}

struct Bounded {
    text: String,
    bytes_max: usize,
}

impl Bounded {
    fn push(&mut self, part: &str) -> Result<(), TooLong> {
        if part.len() > self.bytes_max - self.text.len() {
            return Err(TooLong);
        }
        self.text.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_the_rest_stays() {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            _ => None,
        };
        let cases = [
            ("x$(A)y", "x1y"),
            ("$(A)$(A)", "11"),
            ("$(EMPTY)", ""),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("cost: 5$", "cost: 5$"),
            ("é$(A)", "é1"),
            ("$(", "$("),
            ("$()", "$()"),
            ("$(A)$(A", "1$(A"),
            ("$(A $(A)", "$(A $(A)"),
        ];
        for (text, want) in cases {
            assert_eq!(expand(text, 100, &lookup).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn a_text_that_grows_beyond_its_bound_is_given_up_at_once() {
        let big = "x".repeat(60);
        let lookup = |name: &str| (name == "BIG").then_some(big.as_str());
        assert_eq!(expand("$(BIG)", 60, &lookup).unwrap().len(), 60);
        for text in
            ["$(BIG)x", "$(BIG)$(BIG)", "x$(BIG)", &format!("{big}$$"), &format!("{big}$"), &format!("$(y{big})")]
        {
            assert_eq!(expand(text, 60, &lookup), Err(TooLong), "{text}");
        }
        let many = "$(BIG)".repeat(1 << 20);
        assert_eq!(expand(&many, 1 << 17, &lookup), Err(TooLong));
    }

    #[test]
    fn what_is_never_closed_is_read_once() {
        // Looking for the end anew at each beginning would take minutes.
        let text = "$(".repeat(1 << 20);
        assert_eq!(expand(&text, text.len(), &|_| None).unwrap(), text);
    }
}
