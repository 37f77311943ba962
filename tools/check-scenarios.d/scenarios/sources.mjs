// Several sources of a participant, and many on few SSRCs.
import { allMoving, expect, seconds } from '../call.mjs';
import { until } from '../../lib/process.mjs';

/** name → scenario, see index.mjs. */
export const scenarios = {
  screen: {
    about: 'a screen is shared beside the camera: two sources of video of one participant',
    current: true,
    async run(call) {
      const p1 = await call.join('p1', { size: '640x360', screen: '1280x720@8' });
      const p2 = await call.join('p2');
      await allMoving([p1, p2], 45000);
      await p1.hook('ringbridge.shareScreen()');
      const start = Date.now();
      const seen = async () => {
        const { remote } = await p2.stats();
        return { camera: remote.p1?.video, screen: remote.p1?.screen };
      };
      await until('p2 decodes the screen', 20000, async () => (await seen()).screen?.framesDecoded >= 5, 50);
      const shown = Date.now() - start;
      const base = await seen();
      await until('camera and screen both move', 10000, async () => {
        const now = await seen();
        return ['camera', 'screen'].every(one => now[one].framesDecoded >= base[one].framesDecoded + 5);
      });
      await p2.hook(`ringbridge.want(${JSON.stringify({ stage: ['p1’s screen'], stageHeight: 2160, height: 180 })})`);
      await until('the screen comes at 720', 30000, async () => (await seen()).screen.frameHeight === 720);
      await until('the camera comes at 180', 30000, async () => (await seen()).camera.frameHeight <= 180);
      await p1.hook('ringbridge.session.stopScreen()');
      await until('the screen is gone', 10000, async () => (await p2.state()).participants[0].muted.screen);
      const after = await seen();
      await until('the camera goes on', 10000, async () => (await seen()).camera.framesDecoded >= after.camera.framesDecoded + 5);
      return `beside the camera after ${seconds(shown)}`;
    },
  },

  remap: {
    about: 'SSRC rewriting with one SSRC of each kind: the stage changes, a participant leaves, another comes',
    stack: { ssrcs: 1 },
    current: true,
    async run(call) {
      const [viewer, b, c] = await Promise.all(['p1', 'p2', 'p3'].map(name => call.join(name)));
      await until('all are in the room', 30000, async () => (await viewer.state()).participants.length === 2);
      const seen = new Set();
      // The packets come on the same SSRC, and the library has moved the track to its new owner.
      const shows = async name => {
        await viewer.hook(`ringbridge.want(${JSON.stringify({ stage: [name], stageHeight: 180, height: 0 })})`);
        const figures = async () => {
          const { remote } = await viewer.stats();
          const others = Object.keys(remote).filter(other => other !== name && remote[other].video);
          return others.length === 0 ? remote[name]?.video : undefined;
        };
        const start = Date.now();
        await until(`p1 has the track of ${name} alone`, 15000, figures, 50);
        const base = (await figures())?.framesDecoded ?? 0;
        await until(`p1 decodes ${name}`, 15000, async () => (await figures())?.framesDecoded >= base + 5, 50);
        seen.add((await figures()).ssrc);
        return Date.now() - start;
      };
      const times = [];
      for (const name of ['p2', 'p3', 'p2', 'p3', 'p2']) times.push(await shows(name));
      await b.leave();
      times.push(await shows('p3'));
      const d = await call.join('p4');
      await until('p4 is seen', 20000, async () => (await viewer.state()).participants.some(one => one.name === 'p4'));
      times.push(await shows('p4'), await shows('p3'));
      expect(seen.size === 1, `video came on the SSRCs ${[...seen]}`);
      const own = new Set((await Promise.all([c, d].map(one => one.stats()))).flatMap(one => one.outbound.map(stream => stream.ssrc)));
      expect(![...seen].some(ssrc => own.has(ssrc)), 'the SSRC is a sender\'s own');
      const { remote } = await viewer.stats();
      expect(Object.values(remote).filter(one => one.audio?.packets > 0).length === 1, 'one audio SSRC is not one voice');
      const worst = Math.max(...times.slice(1));
      expect(worst <= 5000, `another participant shown only after ${seconds(worst)}`);
      return `${times.length - 1} times another one on the same SSRC, shown within ${seconds(worst)}`;
    },
  },
};
