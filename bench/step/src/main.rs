//! `ringbridge-step RECEIVERS PACKETS`, or `ringbridge-step ROOMS PARTICIPANTS PACKETS` (of each): prints how many packets were
//! forwarded and how many allocations that took. `tools/instructions` runs it under callgrind.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let steps = match numbers[..] {
        [receivers, packets] => ringbridge_step::run(receivers, packets as usize),
        [rooms, participants, packets] => ringbridge_step::run_rooms(rooms, participants, packets as usize),
        _ => {
            eprintln!("usage: ringbridge-step RECEIVERS PACKETS | ROOMS PARTICIPANTS PACKETS");
            return std::process::ExitCode::from(2);
        }
    };
    println!("{} {}", steps.forwarded, steps.allocations);
    std::process::ExitCode::SUCCESS
}
