//! Kubernetes quantities, as far as the kubelet needs them: `resourceFieldRef` with a divisor.
//!
//! Follows apimachinery's `pkg/api/resource/quantity.go`; values are kept in thousandths, so that
//! `500m` is exact, and rounded up as `ScaledValue` does.

/// A quantity in thousandths of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Milli(pub i128);

impl Milli {
    /// Parses `100m`, `1.5`, `64Mi`, `1e3`, `2G`. `None` when it isn't a quantity.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text
            .char_indices()
            .find(|(at, char)| !(char.is_ascii_digit() || *char == '.' || (*at == 0 && "+-".contains(*char))))
            .map_or(text.len(), |(at, _)| at);
        let (number, suffix) = text.split_at(end);
        let (multiplier, divisor): (i128, i128) = match suffix {
            "n" => (1, 1_000_000),
            "u" => (1, 1_000),
            "m" => (1, 1),
            "" => (1_000, 1),
            "k" => (1_000_000, 1),
            "M" => (1_000_000_000, 1),
            "G" => (1_000_000_000_000, 1),
            "T" => (1_000_000_000_000_000, 1),
            "P" => (1_000_000_000_000_000_000, 1),
            "Ki" => (1_000 << 10, 1),
            "Mi" => (1_000 << 20, 1),
            "Gi" => (1_000 << 30, 1),
            "Ti" => (1_000 << 40, 1),
            "Pi" => (1_000 << 50, 1),
            _ => {
                let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
                (1_000 * 10_i128.checked_pow(exponent)?, 1)
            }
        };
        let negative = number.starts_with('-');
        let number = number.trim_start_matches(['+', '-']);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
            return None;
        }
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let value = ceil_div(digits.checked_mul(multiplier)?, scale * divisor);
        Some(Self(if negative { -value } else { value }))
    }

    /// How many `divisor`s, rounded up: the value of a `resourceFieldRef`
    /// (`pkg/api/v1/resource/helpers.go`, `convertResourceCPUToString` and its neighbours).
    pub fn divided_by(self, divisor: Self) -> i128 {
        ceil_div(self.0, divisor.0.max(1))
    }
}

fn ceil_div(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

#[cfg(test)]
mod tests {
    use super::Milli;

    #[test]
    fn parses_what_specs_say() {
        for (text, milli) in [
            ("0", 0),
            ("100m", 100),
            ("1", 1_000),
            ("1.5", 1_500),
            ("0.1", 100),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("2G", 2_000_000_000_000),
            ("1.5Gi", 1_610_612_736_000),
            (".5", 500),
        ] {
            assert_eq!(Milli::parse(text), Some(Milli(milli)), "{text}");
        }
        for text in ["", "Mi", "1x", "1.2.3", "--1"] {
            assert_eq!(Milli::parse(text), None, "{text}");
        }
    }

    #[test]
    fn divides_as_the_downward_api_does() {
        let divided = |value: &str, by: &str| Milli::parse(value).unwrap().divided_by(Milli::parse(by).unwrap());
        assert_eq!(divided("100m", "1"), 1);
        assert_eq!(divided("1200m", "1"), 2);
        assert_eq!(divided("100m", "1m"), 100);
        assert_eq!(divided("64Mi", "1Mi"), 64);
        assert_eq!(divided("67108865", "1Mi"), 65);
    }
}
