// How what a join costs grows with the room: 0 not at all, 1 as the number of participants, 2 as its square.

/** Where a cost is this small it is noise. Milliseconds of processor time. */
const leastCpu = 0.2;

/** Stanzas are counted, so they have to fit; processor time varies by this much on a busy machine. */
const slack = { stanzas: 0.1, cpu: 0.5 };

const exponent = (from, to, few, many) => from > 0 && to > 0 ? Math.log(to / from) / Math.log(many / few) : 0;
const rounded = value => Math.round(value * 100) / 100;

/**
 * From each size to the next: exponents of the focus's stanzas and of its processor time per join, and whether neither grew
 * faster than the number of participants.
 */
export function growth(rooms) {
  return rooms.slice(1).map((many, index) => {
    const few = rooms[index];
    const of = value => exponent(value(few), value(many), few.participants, many.participants);
    const stanzas = of(room => room.focus?.sent_per_join ?? 0);
    const cpu = of(room => Math.max(room.cpu_ms_per_join?.focus ?? 0, leastCpu));
    return {
      participants: [few.participants, many.participants], focus_stanzas: rounded(stanzas), focus_cpu: rounded(cpu),
      fair: stanzas <= 1 + slack.stanzas && cpu <= 1 + slack.cpu,
    };
  });
}
