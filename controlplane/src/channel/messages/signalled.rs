//! Limits as clients and colibri2 say them: a number, where a negative one is no limit.

use ringbridge_dataplane::media::Limit;

/// The limit that a signalled number means.
pub fn to_limit(number: i32) -> Limit {
    u32::try_from(number).map_or(Limit::Unlimited, Limit::at_most)
}

/// The number that says a limit; unlimited is -1.
pub fn from_limit(limit: Limit) -> i32 {
    match limit {
        Limit::Off => 0,
        Limit::Max(most) => i32::try_from(most).unwrap_or(i32::MAX),
        Limit::Unlimited => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signalled_is_what_is_meant() {
        for (number, limit) in [(0, Limit::Off), (180, Limit::Max(180)), (-1, Limit::Unlimited)] {
            assert_eq!((to_limit(number), from_limit(limit)), (limit, number));
        }
        assert_eq!(to_limit(i32::MIN), Limit::Unlimited);
        assert_eq!(from_limit(Limit::Max(u32::MAX)), i32::MAX);
    }
}
