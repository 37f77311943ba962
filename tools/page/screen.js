// A screen that can be shared where there is none: slides of text drawn on a canvas.

const words = 'the bridge forwards what each receiver can see and no more than its link carries at any time'.split(' ');

/** Replaces getDisplayMedia: a track of `width` × `height` at `fps`, with a new slide every few seconds and a moving mark. */
export function drawScreen({ width, height, fps }) {
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width, height });
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    let frame = 0;
    const slideFrames = fps * 4;
    const draw = () => {
      const slide = Math.floor(frame / slideFrames);
      pen.fillStyle = '#fbfbf8';
      if (frame % slideFrames === 0) {
        pen.fillRect(0, 0, width, height);
        pen.fillStyle = '#223';
        pen.font = `${Math.round(height / 36)}px sans-serif`;
        for (let line = 0; line < 26; line++) {
          const text = Array.from({ length: 14 }, (_, at) => words[(slide * 7 + line * 5 + at * (slide + 3)) % words.length]).join(' ');
          pen.fillText(`${slide + 1}.${line + 1}  ${text}`, width / 24, height / 14 + line * height / 28);
        }
      } else {
        pen.fillRect(0, height - 24, width, 24);
      }
      pen.fillStyle = '#d33';
      pen.fillRect((frame * 24) % width, height - 24, 24, 24);
      frame++;
    };
    draw();
    setInterval(draw, 1000 / fps);
    return canvas.captureStream(fps);
  };
}
