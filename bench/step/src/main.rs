//! `ringbridge-step RECEIVERS PACKETS`, `ringbridge-step ROOMS PARTICIPANTS PACKETS` (of each), or
//! `ringbridge-step relays RELAYS PACKETS`: prints how many packets were forwarded and how many allocations that took. `tools/instructions` runs it under callgrind.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let relays = std::env::args().nth(1).is_some_and(|first| first == "relays");
    let steps = match numbers[..] {
        [count, packets] if relays => ringbridge_step::run_relays(count, packets as usize),
        [receivers, packets] => ringbridge_step::run(receivers, packets as usize),
        [rooms, participants, packets] => ringbridge_step::run_rooms(rooms, participants, packets as usize),
        _ => {
            eprintln!("usage: ringbridge-step RECEIVERS PACKETS | ROOMS PARTICIPANTS PACKETS | relays RELAYS PACKETS");
            return std::process::ExitCode::from(2);
        }
    };
    println!("{} {}", steps.forwarded, steps.allocations);
    std::process::ExitCode::SUCCESS
}
