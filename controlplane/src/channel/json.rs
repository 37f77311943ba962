//! Lenient JSON: clients are JavaScript, so whole numbers may arrive as `180.0` and absent fields as `null`.

use std::collections::BTreeMap;

use ringbridge_dataplane::media::VideoConstraint;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A number where an integer is meant: fractions are cut, numbers out of range are clamped.
fn int(number: f64) -> i32 {
    // `as` saturates and turns NaN into 0.
    number as i32
}

/// A required integer.
pub(super) fn required_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    f64::deserialize(deserializer).map(int)
}

/// An optional integer.
pub(super) fn optional_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(int))
}

/// An optional integer of 64 bits.
pub(super) fn optional_long<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|number| number as i64))
}

/// A `VideoConstraint` as clients write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireConstraint {
    #[serde(default = "unlimited", deserialize_with = "required_int")]
    max_height: i32,
    #[serde(default = "unlimited", deserialize_with = "required_int")]
    max_frame_rate: i32,
}

fn unlimited() -> i32 {
    -1
}

impl From<WireConstraint> for VideoConstraint {
    fn from(wire: WireConstraint) -> Self {
        Self { max_height: wire.max_height, max_frame_rate: wire.max_frame_rate }
    }
}

/// An optional constraint.
pub(super) fn optional_constraint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<VideoConstraint>, D::Error> {
    Ok(Option::<WireConstraint>::deserialize(deserializer)?.map(Into::into))
}

/// An optional map of constraints.
pub(super) fn optional_constraints<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, VideoConstraint>>, D::Error> {
    let map = Option::<BTreeMap<String, WireConstraint>>::deserialize(deserializer)?;
    Ok(map.map(|map| map.into_iter().map(|(name, wire)| (name, wire.into())).collect()))
}

/// A video type, without regard to case.
pub(super) fn video_type<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ringbridge_dataplane::media::VideoType, D::Error> {
    use ringbridge_dataplane::media::VideoType;
    let text = String::deserialize(deserializer)?;
    match text.to_ascii_lowercase().as_str() {
        "camera" => Ok(VideoType::Camera),
        "desktop" => Ok(VideoType::Desktop),
        "desktop_high_fps" => Ok(VideoType::DesktopHighFps),
        "none" => Ok(VideoType::None),
        "disabled" => Ok(VideoType::Disabled),
        _ => Err(D::Error::unknown_variant(&text, &["camera", "desktop", "desktop_high_fps", "none", "disabled"])),
    }
}
