// The end-to-end check: N participants meet, and WebRTC's own statistics say who decodes whom.
import { Browser, camera, pageAddress } from '../lib/browsers.mjs';
import { Firefox } from '../lib/firefox.mjs';
import { difference, everybodyMeets, matrix, measureUntilAll, median, meets, sentVideo, setupTimes } from '../lib/measure.mjs';
import { until } from '../lib/process.mjs';
import { ownParticipants, relays } from '../lib/relays.mjs';
import { lastJson, lightPace, scriptedPairs, startScripted } from '../lib/scripted.mjs';

/**
 * Runs the check on a running stack. Options: participants, seconds, codec, asymmetric, p2p, scripted, channel, light.
 * Returns the object of the last line; `ok` says whether all is well.
 * @param {import('../lib/stack.mjs').Stack} stack
 * @param {Record<string, any>} options
 */
export async function check(stack, options, say = console.log) {
  const { participants: total, seconds, codec, asymmetric, p2p, channel } = options;
  const scripted = options.scripted ?? (total > 4 ? total - 2 : 0);
  const browsers = total - scripted;
  if (browsers < 1) throw new Error(`--scripted ${scripted}: at least one of ${total} participants must be a browser`);
  const room = `check-${Date.now().toString(36)}`;
  const firefox = Math.min(options.firefox ?? 0, browsers);
  say(`${total} participants (${browsers - firefox} Chromium, ${firefox ? `${firefox} Firefox, ` : ''}${scripted} scripted), camera ${options.size ?? camera.size} at ${options.fps ?? camera.fps} fps,`
    + ` codec ${codec ?? (options.client ? "as the client likes" : 'vp8')}${asymmetric ? ', the first with other numbers' : ''}${p2p ? ', peer to peer allowed' : ''}`);
  const browser = await Browser.launch();
  const participants = [];
  let load;
  try {
    // Without rewriting some never meet; who shares numbers does within seconds.
    const patience = options.disableRewriting ? 12000 : 30000 + 5000 * total;
    const long = seconds >= 120;
    // What is judged as a whole is measured once, and so is what must fail.
    const settling = long || options.disableRewriting ? 0 : 30000;
    // They report when they are ordered to leave; at the latest after the start of the browsers, three waits, and the measurements.
    if (scripted) load = startScripted({ stack, room, count: scripted, seconds: 2 * seconds + 60 + Math.ceil((3 * patience + settling) / 1000),
      more: [...codec ? ['--codec', codec] : [], ...options.ssrcRewriting ? ['--ssrc-rewriting'] : [], ...options.light ? lightPace : []] });
    for (let number = 1; number <= browsers; number++) {
      const name = `p${number}`;
      const query = { codec, p2p, asymmetric: asymmetric && number === 1, size: options.size, fps: options.fps,
        client: options.mixed && number === 1 ? 'packaged' : undefined };
      const isFirefox = number > browsers - firefox;
      participants.push(isFirefox
        ? await Firefox.join(pageAddress(stack.page.address, room, name, query), name, stack.folder)
        : await browser.join(stack.page.address, room, name, query));
      if (isFirefox) await participants.at(-1).ready();
    }

    let met = await everybodyMeets(participants, patience);
    let others = [];
    if (scripted) {
      others = await until('the scripted participants are in the room', patience, async () => {
        load.check();
        const { participants: seen } = await participants[0].state();
        const names = seen.map(one => one.name).filter(name => !participants.some(one => one.name === name));
        return names.length >= scripted && names;
      }, 500);
      met = await Promise.all(participants.map(one => until('', patience, () => meets(one, others), 500).then(() => true, () => false)))
        .then(all => met && all.every(Boolean));
    }
    if (!met) say('not all pairs decode yet; measuring what is there');

    const senders = [...participants.map(one => one.name), ...others];
    const watch = long ? watchMemory(stack, 60000) : undefined;
    const freezes = long ? watchFreezes(participants, senders) : undefined;
    const { pairs, before, after, measurements } = await measureUntilAll(participants, seconds * 1000, senders, settling);
    const memory = watch?.stop();
    const worst = freezes ? await freezes.stop() : undefined;

    say('');
    if (measurements > 1) say(`measured ${measurements} times: not every pair decoded at first`);
    say(`decoded frames and audio energy over ${seconds} s:`);
    say(matrix(pairs, senders, participants.map(one => one.name)));
    const kinds = new Set(pairs.filter(one => one.video?.codec).map(one => `${one.receiver}: ${one.video.codec} ${one.video.payloadType}${one.video.p2p ? ' p2p' : ''}`));
    say(`video formats received: ${[...kinds].join(', ') || 'none'}`);
    // What a browser hardly encodes nobody can decode: a machine that is too slow is to be seen as such.
    const sent = participants.map(({ name }, index) => ({ name, ...sentVideo(before[index], after[index]) }));
    say(`frames a second that the browsers encoded: ${sent.map(({ name, frames, kbits, limited }) => `${name} ${frames.toFixed(1)} (${Math.round(kbits)} kbit/s${limited ? `, limited: ${limited}` : ''})`).join(', ')}`);
    for (const line of pairs.filter(one => !one.videoOk).map(missing)) say(line);

    let videoOk = pairs.filter(one => one.videoOk).length;
    let audioOk = pairs.filter(one => one.audioOk).length;
    let wrongCodec = 0;
    if (codec) {
      // A call that silently fell back to another codec is no proof.
      wrongCodec = pairs.filter(one => one.video?.codec?.toLowerCase() !== codec).length;
      if (wrongCodec) say(`${wrongCodec} pairs do not use ${codec}`);
    }
    let renumbered = true;
    if (asymmetric) {
      const own = pairs.filter(one => one.receiver === 'p1').map(one => one.video?.payloadType);
      const theirs = pairs.filter(one => one.receiver !== 'p1').map(one => one.video?.payloadType);
      renumbered = own.length > 0 && own.every(number => number !== undefined && !theirs.includes(number));
      if (!renumbered) say('the participant with other numbers does not receive other payload types');
    }
    const began = Date.now();
    const heights = firefox ? await wrongHeights(participants) : [];
    for (const line of heights) say(line);
    if (firefox) say(heights.length ? 'not all get the height that is sent' : `all get the height that is sent, ${((Date.now() - began) / 1000).toFixed(1)} s after the measurement`);
    let known = [];
    let carried = true;
    if (channel) {
      const all = await stack.bridgeStats();
      const [data, socket] = ['data_channel', 'colibri_web_socket'].map(name => all.reduce((sum, stats) => sum + stats[`total_${name}_messages_received`], 0));
      carried = channel === 'sctp' ? data >= browsers && socket === 0 : socket >= browsers && data === 0;
      say(`bridge channel messages: ${data} over data channels, ${socket} over WebSockets`);
    }
    let rewritten = true;
    if (options.client) {
      rewritten = await foreignSsrcs(participants.slice(options.mixed ? 1 : 0), participants, say);
    }
    const wrong = p2p ? [] : stack.bridges.length > 1 ? [...await wrongSpread(stack, total), ...await wrongCarriers(stack)] : await wrongStatistics(stack.bridges[0], total);
    for (const line of wrong) say(`statistics of the bridge: ${line}`);
    let direct = true;
    if (p2p && total === 2) {
      direct = pairs.every(one => one.video?.p2p);
      if (!direct) say('media does not flow peer to peer');
    }
    if (load) {
      say('waiting for the report of the scripted participants');
      // Before these leave: one of them may be the owner.
      const pages = await Promise.all(participants.map(one => one.state()));
      load.signal('SIGTERM');
      await load.ended;
      const report = lastJson(load.tail(400));
      const enough = scriptedPairs(report, seconds, { audio: options.light ? 5 : 10, sent: new Map(pages.map((page, index) => [page.id, sent[index].frames])) });
      known = roomMistakes(report, pages);
      for (const line of known) say(`the room: ${line}`);
      if (!enough) say(`the scripted participants left no report (${load.result}):\n${load.tail()}`);
      videoOk += enough?.video ?? 0;
      audioOk += enough?.audio ?? 0;
    }

    const times = await setupTimes(participants);
    const errors = stack.errors();
    for (const line of errors.slice(0, 10)) say(line);
    const count = total * (total - 1);
    const round = value => value === null || value === undefined ? null : Math.round(value);
    const result = {
      participants: total,
      pairs: count,
      video_ok: videoOk,
      audio_ok: audioOk,
      setup_ms_p50: round(median(times)),
      setup_ms_max: times.length ? round(Math.max(...times)) : null,
      seconds,
      ...measurements > 1 && { measurements },
      codec: codec ?? (options.client ? "the client's choice" : 'vp8'),
      browsers, scripted,
      sent_fps_min: Number(Math.min(...sent.map(one => one.frames)).toFixed(1)),
      ...stack.bridges.length > 1 && { bridges: stack.bridges.length, strategy: stack.strategy, relay_channel: stack.relayChannel ?? 'sctp' },
      ...firefox && { firefox, height_ok: pairs.length - heights.length },
      freezes: pairs.reduce((sum, one) => sum + one.freezes, 0),
      frozen_ms: round(1000 * pairs.reduce((sum, one) => sum + one.frozen, 0)),
      error_log_lines: errors.length,
      ...worst && { max_freeze_ms: worst.longest },
      ...memory && { rss_after_first_minute_mib: memory.first, rss_end_mib: memory.last, rss_growth_percent: memory.growth },
    };
    const ok = videoOk === count && audioOk === count && !wrongCodec && renumbered && direct && carried && rewritten && !wrong.length && !known.length && !heights.length
      && (!memory || !worst || (errors.length === 0 && memory.growth <= 5 && worst.longest <= 500));
    if (!ok) for (const one of participants) sayTrouble(one, pairs, say);
    return { ...result, ok };
  } finally {
    await load?.stop();
    await browser.close();
    for (const one of participants) if (one.kind === 'firefox') await one.browser.close();
  }
}

/**
 * Pairs of browsers whose receiver, which asks for everything, does not get to decode the tallest that its sender sends: within
 * half a minute, since a downlink has to be measured before it carries that much.
 */
async function wrongHeights(participants) {
  return await lastingly(30000, 500, async () => {
    const stats = new Map(await Promise.all(participants.map(async one => [one.name, await one.stats()])));
    const sent = new Map([...stats].map(([name, { outbound }]) => [name, outbound]));
    const pairs = participants.flatMap(({ name: receiver }) => participants.filter(one => one.name !== receiver)
      .map(({ name: sender }) => ({ sender, receiver, video: stats.get(receiver).remote[sender]?.video })));
    return smallerPictures(sent, pairs);
  });
}

/**
 * What stays wrong: `find` is called every `interval` milliseconds until it finds nothing, and what it found last is returned after `patience`.
 * @param {() => Promise<string[]>} find
 */
async function lastingly(patience, interval, find) {
  let wrong = [];
  await until('nothing is wrong', patience, async () => {
    wrong = await find().catch(error => [error.message]);
    return !wrong.length;
  }, interval).catch(() => {});
  return wrong;
}

/** The same for what is sent: the name of a sender → its encodings. */
export function smallerPictures(sent, pairs) {
  const tallest = new Map([...sent].map(([name, streams]) => [name, Math.max(0, ...streams
    .filter(stream => stream.kind === 'video' && stream.active !== false && stream.frames > 0).map(stream => stream.height ?? 0))]));
  return pairs
    .filter(one => tallest.has(one.sender) && one.video?.frameHeight !== tallest.get(one.sender))
    .map(one => `${one.receiver} decodes ${one.video?.frameHeight ?? 'no'} lines of ${one.sender}, which sends ${tallest.get(one.sender)}`);
}

/** What the bridges of one conference get wrong: everybody is on one of them, and each of them knows all. */
async function wrongSpread(stack, total) {
  return await lastingly(11000, 1000, async () => {
    const all = await stack.bridgeStats();
    const local = ownParticipants(all);
    return [
      ...local.reduce((sum, count) => sum + count, 0) === total ? [] : [`${local} participants on the bridges, ${total} in all`],
      ...all.flatMap((stats, index) => local[index] && stats.endpoints !== total ? [`bridge ${index + 1} knows ${stats.endpoints} of ${total}`] : []),
      ...stack.strategy === 'split' && local.filter(Boolean).length !== Math.min(total, all.length) ? [`${local} participants: not all bridges are used`] : [],
    ];
  });
}

/** Relays whose channel is not open, or another one than was asked for. */
async function wrongCarriers(stack) {
  if (!stack.strategy) return [];
  const asked = stack.relayChannel === 'websocket' ? 'WebSocket' : 'Data';
  return await lastingly(11000, 1000, async () => {
    const links = await relays(stack);
    if (!links.length) return ['no bridge has a relay'];
    return links.filter(one => one.carrier !== asked).map(one => `${one.from} talks with ${one.to} over ${one.carrier ?? 'nothing'} instead of ${asked}`);
  });
}

/** What the bridge's statistics say wrongly of one conference of `total`; they are made every five seconds. */
async function wrongStatistics(bridge, total) {
  const expected = {
    conferences: 1, largest_conference: total, endpoints: total, local_active_endpoints: total, inactive_endpoints: 0,
    endpoints_sending_audio: total, endpoints_sending_video: total, receive_only_endpoints: 0,
    total_ice_failed: 0, dtls_failed_endpoints: 0,
  };
  return await lastingly(11000, 1000, async () => {
    const stats = await bridge.bridgeStats();
    return Object.entries(expected).filter(([name, value]) => stats[name] !== value).map(([name, value]) => `${name} ${stats[name]} instead of ${value}`);
  });
}

/**
 * What the scripted participants and the pages do not agree on: everybody sees everybody, and the same single owner.
 * `pages` are the pages' states.
 */
export function roomMistakes(report, pages) {
  if (!Array.isArray(report?.reports)) return ['the scripted participants left no report'];
  const all = [...report.reports.map(one => one.endpoint), ...pages.map(page => page.id)];
  const same = (a, b) => a.length === b.length && a.every(one => b.includes(one));
  const mistakes = [];
  for (const { endpoint, occupants, owners, received } of report.reports) {
    const others = all.filter(one => one !== endpoint);
    if (!same(others, occupants)) mistakes.push(`${endpoint} saw ${occupants.length} others instead of ${others.length}`);
    // The bridge's own feedback sources have an owner of their own, who sends nothing.
    const senders = Object.keys(received).filter(sender => received[sender].audio_packets || received[sender].video_frames);
    if (!same(others, senders)) mistakes.push(`${endpoint} received media of ${senders.length} instead of ${others.length}`);
    if (owners.length !== 1 || owners[0] !== report.reports[0].owners[0]) mistakes.push(`${endpoint} saw the owners ${owners}`);
  }
  for (const page of pages) {
    if (page.owner !== (page.id === report.reports[0].owners[0])) mistakes.push(`${page.id} says that it is ${page.owner ? 'an' : 'no'} owner`);
  }
  return mistakes;
}

/**
 * Whether none of what `receivers` get comes on an SSRC that a sender uses, that is, whether the bridge rewrites; and in a media
 * section that the bridge named.
 */
async function foreignSsrcs(receivers, senders, say) {
  const sent = new Set((await Promise.all(senders.map(one => one.stats()))).flatMap(one => one.outbound.map(stream => stream.ssrc)));
  let ok = true;
  for (const receiver of receivers) {
    const { remote } = await receiver.stats();
    const streams = Object.values(remote).flatMap(one => [one.video, one.audio]).filter(Boolean);
    const got = streams.map(one => one.ssrc);
    const own = got.filter(ssrc => sent.has(ssrc));
    const sections = streams.map(one => one.mid);
    say(`${receiver.name} receives ${new Set(got).size} SSRCs, ${own.length} of them a sender's own, in the media sections ${sections.sort().join(' ')}`);
    ok &&= got.length > 0 && own.length === 0 && sections.every(mid => /^[av]\d+$/.test(mid)) && new Set(sections).size === sections.length;
  }
  return ok;
}

/** Where the pictures of a pair got lost: nothing came, nothing that can be decoded came, or decoding took too long. */
function missing({ sender, receiver, seconds, packets, frames, keyframes, requests }) {
  return `${receiver} of ${sender}: ${packets} packets in ${Math.round(seconds)} s, ${frames} frames decoded, ${keyframes} of them keyframes, ${requests} keyframes asked for`;
}

/** What a participant with trouble wrote to its console. */
function sayTrouble(participant, pairs, say) {
  if (pairs.every(one => one.receiver !== participant.name || (one.videoOk && one.audioOk))) return;
  const lines = participant.console.filter(line => /^(error|exception)/.test(line)).slice(-5);
  for (const line of lines) say(`  ${participant.name}: ${line.slice(0, 300)}`);
}

/** Follows the memory of the ringbridge processes; growth counts from `settle` milliseconds on. */
function watchMemory(stack, settle) {
  const mebibytes = () => stack.processes().reduce((sum, one) => sum + one.process.memory(), 0) / 2 ** 20;
  let first;
  const timer = setTimeout(() => { first = mebibytes(); }, settle);
  return {
    stop() {
      clearTimeout(timer);
      const last = mebibytes();
      first ??= last;
      const digits = value => Number(value.toFixed(1));
      return { first: digits(first), last: digits(last), growth: digits(100 * (last - first) / first) };
    },
  };
}

/**
 * Finds the longest freeze: the figures are totals, so between two readings one new freeze gives its length,
 * and several give at most their sum.
 */
function watchFreezes(participants, senders) {
  let longest = 0;
  let before = new Map();
  let busy = Promise.resolve();
  const look = async () => {
    const now = new Map(await Promise.all(participants.map(async one => [one.name, await one.stats()])));
    for (const [receiver, stats] of now) {
      for (const sender of senders) {
        if (sender === receiver || !before.has(receiver)) continue;
        longest = Math.max(longest, difference(before.get(receiver), stats, sender).frozen * 1000);
      }
    }
    before = now;
  };
  const timer = setInterval(() => { busy = busy.then(look).catch(() => {}); }, 2000);
  return {
    async stop() {
      clearInterval(timer);
      await busy;
      await look();
      return { longest: Math.round(longest) };
    },
  };
}
