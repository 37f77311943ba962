// The picture in front of the fake camera: textures that move, with some grain, so that 720p costs what a person costs.
import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { demoFolder } from '../lib/paths.mjs';

/** Numbers that look random and are the same every time (xorshift). */
function numbers(seed) {
  let state = seed;
  return () => {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** A square of soft noise that repeats at its borders. */
function texture(size, cell, random) {
  const knots = size / cell;
  const grid = Float32Array.from({ length: knots * knots }, () => random() * 255);
  const out = new Uint8Array(size * size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [column, row] = [Math.floor(x / cell), Math.floor(y / cell)];
      const [right, below] = [(column + 1) % knots, (row + 1) % knots];
      const [a, b] = [(x % cell) / cell, (y % cell) / cell];
      out[y * size + x] = grid[row * knots + column] * (1 - a) * (1 - b) + grid[row * knots + right] * a * (1 - b)
        + grid[below * knots + column] * (1 - a) * b + grid[below * knots + right] * a * b;
    }
  }
  return out;
}

/** Writes the clip once and returns its path. */
export function cameraClip({ width = 1280, height = 720, fps = 15, seconds = 6 } = {}) {
  const path = join(demoFolder, `camera-${width}x${height}-${fps}.y4m`);
  if (existsSync(path)) return path;
  mkdirSync(demoFolder, { recursive: true });
  const random = numbers(20261126);
  const size = 1024;
  const [coarse, fine] = [texture(size, 64, random), texture(size, 8, random)];
  const grain = Int8Array.from({ length: 1 << 16 }, () => random() * 7 - 3);
  const file = openSync(`${path}.new`, 'w');
  writeSync(file, `YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C420jpeg\n`);
  const frame = Buffer.alloc(width * height * 3 / 2, 128);
  for (let number = 0; number < fps * seconds; number++) {
    // A whole turn per clip, so that its end fits its beginning.
    const turn = 2 * Math.PI * number / (fps * seconds);
    const [sway, bob] = [Math.round(60 * Math.sin(turn)) + size, Math.round(24 * Math.sin(2 * turn)) + size];
    const shift = Math.floor(random() * grain.length);
    const [centre, middle] = [width / 2 + 80 * Math.sin(turn), height / 2 + 20 * Math.cos(2 * turn)];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        // A head that moves in front of a wall that stands still.
        const [dx, dy] = [(x - centre) / (height * 0.34), (y - middle) / (height * 0.45)];
        const inside = dx * dx + dy * dy < 1;
        const at = inside ? ((y + bob) % size) * size + (x + sway) % size : (y % size) * size + x % size;
        const light = inside ? coarse[at] * 0.5 + fine[at] * 0.35 + 30 : coarse[at] * 0.55 + fine[at] * 0.12 + 20;
        frame[y * width + x] = light + grain[(y * width + x + shift) & 0xffff];
      }
    }
    writeSync(file, 'FRAME\n');
    writeSync(file, frame);
  }
  closeSync(file);
  renameSync(`${path}.new`, path);
  return path;
}
