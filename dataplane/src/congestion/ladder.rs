//! The steps in which one source can be given to one receiver, from cheap to good (docs/protocol/bridge.md 8.3, step 4).

use super::layer::{Layer, LayerId};
use crate::media::{Limit, VideoType};

/// A camera gets this height before anything lower on the list gets more, and below it every frame rate is worth having.
const PREFERRED_HEIGHT: u32 = 360;
const THUMBNAIL_HEIGHT: u32 = 180;
/// A layer with at least this share of the frame rate of its size is a full one.
const FULL_RATE: f32 = 0.8;
/// Frames per second that a shared screen needs to be of use.
const SCREEN_RATE: f32 = 4.5;
/// Layers are measured as payload; what packets add to it.
const OVERHEAD: f64 = 1.05;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What to forward.
    pub id: LayerId,
    /// Bits per second on the wire.
    pub bitrate: u64,
}

/// Steps in rising order of quality and of bitrate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ladder {
    steps: Vec<Step>,
    preferred: usize,
}

/// Height of an encoding whose keyframes do not say it.
pub fn nominal_height(encoding: usize) -> u32 {
    THUMBNAIL_HEIGHT << encoding.min(6)
}

fn height(layer: &Layer) -> u32 {
    layer.height.map_or_else(|| nominal_height(layer.id.encoding.into()), u32::from)
}

impl Ladder {
    /// The steps of a source whose layers are known. `limit` is a height, `max_frame_rate` in frames per second. A limit below everything there is leaves the lowest size.
    pub fn of(layers: &[Layer], video_type: VideoType, limit: Limit, max_frame_rate: Limit) -> Self {
        let Some(lowest) = layers.iter().map(height).min().filter(|_| limit.is_on() && max_frame_rate.is_on()) else {
            return Self::default();
        };
        // A source that has just started measures nothing: take all, so that it can.
        let any = layers.iter().any(|l| l.bitrate > 0);
        let screen = matches!(video_type, VideoType::Desktop | VideoType::DesktopHighFps);
        let large = limit > Limit::Max(THUMBNAIL_HEIGHT);
        let full_rate = |of: &Layer| {
            let same = layers.iter().filter(|l| height(l) == height(of));
            same.map(|l| l.frame_rate).fold(0.0, f32::max) * FULL_RATE
        };
        let slow_enough = |l: &Layer| match max_frame_rate {
            Limit::Max(most) => l.frame_rate <= most as f32 * 1.25,
            Limit::Off | Limit::Unlimited => true,
        };
        let fits = |l: &&Layer| {
            let size = limit.allows(height(l)) || height(l) == lowest;
            let full = screen || !large || height(l) < PREFERRED_HEIGHT || l.frame_rate >= full_rate(l);
            let slower = layers.iter().any(|o| height(o) == height(l) && slow_enough(o));
            // Where only a lower frame rate is wanted, it is the full one.
            (!any || l.bitrate > 0)
                && size
                && (slow_enough(l) || !slower)
                && (full || max_frame_rate != Limit::Unlimited)
        };
        let mut sorted: Vec<&Layer> = layers.iter().filter(fits).collect();
        sorted.sort_by_cached_key(|layer| {
            // Those of one encoding and size stay together, in their order.
            let same = || layers.iter().filter(|l| l.id.encoding == layer.id.encoding && height(l) == height(layer));
            let (frame_rate, bitrate) =
                same().fold((0, 0), |(frames, bits), l| (frames.max(l.frame_rate as u32), bits.max(l.bitrate)));
            (height(layer), frame_rate, bitrate, layer.id)
        });
        let mut steps: Vec<(u32, f32, Step)> = Vec::with_capacity(sorted.len());
        for layer in sorted {
            let top = layers.iter().filter(|l| l.id.encoding == layer.id.encoding).all(|l| l.id <= layer.id);
            // Whatever else the encoding turns out to carry belongs to it.
            let id = if top { LayerId::whole(layer.id.encoding) } else { layer.id };
            let bitrate = (layer.bitrate as f64 * OVERHEAD) as u64;
            // What is better and costs no more takes its place.
            while steps.last().is_some_and(|(.., s)| s.bitrate >= bitrate) {
                steps.pop();
            }
            steps.push((height(layer), layer.frame_rate, Step { id, bitrate }));
        }
        let tallest = steps.iter().map(|s| s.0).max().unwrap_or(0);
        let preferred = if screen {
            steps.iter().position(|(h, rate, _)| *h == tallest && *rate >= SCREEN_RATE)
        } else if large {
            steps.iter().rposition(|(h, ..)| *h <= PREFERRED_HEIGHT.max(lowest))
        } else {
            None
        };
        let preferred = preferred.unwrap_or(steps.len().saturating_sub(1));
        Self { steps: steps.into_iter().map(|(.., step)| step).collect(), preferred }
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step that a source should reach before less important ones get anything better.
    pub fn preferred(&self) -> usize {
        self.preferred
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(encoding: u8, temporal: u8, height: u16, frame_rate: f32, bitrate: u64) -> Layer {
        Layer { id: LayerId { encoding, spatial: 0, temporal }, height: Some(height), frame_rate, bitrate }
    }

    fn camera() -> Vec<Layer> {
        let rates = [(180, 150_000), (360, 500_000), (720, 2_500_000)];
        let all = rates.iter().zip(0u8..).flat_map(|((height, rate), encoding)| {
            (0..3u8).map(move |t| {
                layer(
                    encoding,
                    t,
                    *height,
                    [7.5, 15.0, 30.0][usize::from(t)],
                    rate * [50, 70, 100][usize::from(t)] / 100,
                )
            })
        });
        all.collect()
    }

    fn ids(ladder: &Ladder) -> Vec<(u8, u8)> {
        ladder.steps().iter().map(|s| (s.id.encoding, s.id.temporal)).collect()
    }

    #[test]
    fn small_pictures_at_every_frame_rate_large_ones_at_the_full_one() {
        let top = LayerId::whole(0).temporal;
        let ladder = Ladder::of(&camera(), VideoType::Camera, Limit::Max(720), Limit::Unlimited);
        assert_eq!(ids(&ladder), [(0, 0), (0, 1), (0, top), (1, top), (2, top)]);
        assert_eq!(ladder.preferred(), 3);
        assert_eq!(ladder.steps()[4].bitrate, 2_625_000);
        let ladder = Ladder::of(&camera(), VideoType::Camera, Limit::Max(180), Limit::Unlimited);
        assert_eq!((ids(&ladder), ladder.preferred()), (vec![(0, 0), (0, 1), (0, top)], 2));
        assert_eq!(
            ids(&Ladder::of(&camera(), VideoType::Camera, Limit::Max(90), Limit::Unlimited)).len(),
            3,
            "the lowest size stays"
        );
        assert_eq!(ids(&Ladder::of(&camera(), VideoType::Camera, Limit::Off, Limit::Unlimited)), []);
        let slow = Ladder::of(&camera(), VideoType::Camera, Limit::Unlimited, Limit::Max(15));
        assert_eq!(ids(&slow), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn a_screen_prefers_its_full_size_at_few_frames() {
        let layers = [
            layer(0, 0, 540, 5.0, 200_000),
            layer(1, 0, 1080, 5.0, 700_000),
            layer(1, 1, 1080, 15.0, 1_200_000),
            layer(1, 2, 1080, 30.0, 2_000_000),
        ];
        let ladder = Ladder::of(&layers, VideoType::Desktop, Limit::Unlimited, Limit::Unlimited);
        assert_eq!((ladder.steps().len(), ladder.preferred()), (4, 1));
    }

    #[test]
    fn whatever_the_order_in_which_encodings_are_named() {
        let rates = [(180, 150_000), (360, 500_000), (720, 2_500_000)];
        let orders = [[2, 1, 0], [0, 2, 1], [1, 2, 0], [1, 0, 2], [2, 0, 1], [0, 1, 2]];
        for order in orders {
            let named = |(encoding, of): (u8, &usize)| {
                let (height, rate) = rates[*of];
                layer(encoding, 0, height, 30.0, rate)
            };
            let layers: Vec<Layer> = (0u8..).zip(&order).map(named).collect();
            let ladder = Ladder::of(&layers, VideoType::Camera, Limit::Unlimited, Limit::Unlimited);
            let rising: Vec<usize> = ladder.steps().iter().map(|s| order[usize::from(s.id.encoding)]).collect();
            assert_eq!(rising, [0, 1, 2], "{order:?}");
            let ladder = Ladder::of(&layers, VideoType::Camera, Limit::Max(180), Limit::Unlimited);
            assert_eq!(ladder.steps().iter().map(|s| order[usize::from(s.id.encoding)]).collect::<Vec<_>>(), [0]);
        }
        let screens = [layer(0, 0, 1080, 30.0, 2_000_000), layer(1, 0, 1080, 5.0, 300_000)];
        let ladder = Ladder::of(&screens, VideoType::Desktop, Limit::Unlimited, Limit::Unlimited);
        assert_eq!(ids(&ladder).iter().map(|i| i.0).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn what_costs_no_less_than_something_better_is_left_out() {
        let layers = [layer(0, 0, 180, 30.0, 150_000), layer(1, 0, 360, 30.0, 120_000), layer(2, 0, 720, 30.0, 0)];
        let ladder = Ladder::of(&layers, VideoType::Camera, Limit::Unlimited, Limit::Unlimited);
        assert_eq!(ids(&ladder).iter().map(|i| i.0).collect::<Vec<_>>(), [1]);
        let silent = layers.map(|l| Layer { bitrate: 0, ..l });
        let ladder = Ladder::of(&silent, VideoType::Camera, Limit::Max(360), Limit::Unlimited);
        assert_eq!(
            ids(&ladder).iter().map(|i| i.0).collect::<Vec<_>>(),
            [1],
            "all are taken while nothing is measured"
        );
    }
}
