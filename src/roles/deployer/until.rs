//! How far a deployer goes, when it is not to go to the end: a custom deployer may have the stock one do a part, look, and go on.

use std::{fmt, str::FromStr};

/// A point of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Until {
    /// To the end.
    #[default]
    End,
    /// Before anything is done.
    Start,
    /// After the pre hook.
    Pre,
    /// After the mid hook.
    Mid,
    /// When this share of the new pods is there, in percent.
    Percent(i32),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::End),
            "start" => Ok(Self::Start),
            "pre" => Ok(Self::Pre),
            "mid" => Ok(Self::Mid),
            _ => {
                let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
                let percent = percent.filter(|percent| (0..=100).contains(percent));
                percent.map(Self::Percent).ok_or_else(|| format!("{text:?} is none of start, pre, mid, and 0% to 100%"))
            }
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the end"),
            Self::Start => f.write_str("start"),
            Self::Pre => f.write_str("pre"),
            Self::Mid => f.write_str("mid"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What became of a strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The rollout is what it is to be.
    Done,
    /// It has come as far as it was told, to the point in words.
    Reached(String),
}

impl Until {
    /// Whether this many of the wanted pods are as far as it goes. All of them are not the end: hooks may follow.
    pub(super) fn stops_at(self, n: i32, desired: i32) -> Option<Outcome> {
        let Self::Percent(share) = self else { return None };
        let has = if desired > 0 { i64::from(n) * 100 / i64::from(desired) } else { 100 };
        (has >= i64::from(share)).then(|| Outcome::Reached(format!("{self} (currently {has}%)")))
    }

    /// Whether it goes no further than this point.
    pub(super) fn is(self, point: Self) -> Option<Outcome> {
        (self == point).then(|| Outcome::Reached(self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_as_they_are_written() {
        for text in ["start", "pre", "mid", "50%", "100%"] {
            assert_eq!(text.parse::<Until>().unwrap().to_string(), text);
        }
        assert_eq!("".parse(), Ok(Until::End));
        for wrong in ["half", "50", "101%", "-1%", "%"] {
            assert!(wrong.parse::<Until>().unwrap_err().contains("is none of"), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_reached_when_as_many_pods_are_there() {
        let half = Until::Percent(50);
        assert_eq!(half.stops_at(1, 3), None);
        assert_eq!(half.stops_at(2, 3), Some(Outcome::Reached("50% (currently 66%)".to_owned())));
        assert_eq!(half.stops_at(0, 0), Some(Outcome::Reached("50% (currently 100%)".to_owned())));
        assert_eq!(Until::End.stops_at(3, 3), None);
    }
}
