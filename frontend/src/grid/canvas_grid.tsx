/**
 * A grid of any number of cells on one canvas, of which only the visible ones are drawn. The canvas stays in place while
 * an element of the grid's full height scrolls, so that each frame costs one drawing and no layout.
 */
import { effect, type ReadonlySignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { gridGeometry, positionAt, scrollToShow, tileRect, visibleRange } from "./geometry.ts";
import type { TileTheme } from "./paint_tile.ts";

export interface GridProps {
  readonly label: string;
  readonly n: number;
  readonly tile: number;
  /** Position of the cell that the keyboard acts on, or -1. */
  readonly active: number;
  readonly isSelected: (position: number) => boolean;
  readonly describe: (position: number) => string;
  readonly paint: (context: CanvasRenderingContext2D, position: number, x: number, y: number, theme: TileTheme) => void;
  /** Called with the positions in view whenever they change, and when `version` does. */
  readonly onView: (first: number, last: number, columns: number) => void;
  readonly onPick: (position: number, event: MouseEvent) => void;
  readonly onKeyDown: (event: KeyboardEvent) => void;
  /** Draws again when it changes, without rendering the component. */
  readonly version: ReadonlySignal<number>;
}

const GAP = 6;
const darkScheme = matchMedia("(prefers-color-scheme: dark)");

export function CanvasGrid(props: GridProps) {
  const { n, tile, active } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const geometry = gridGeometry(n, size.width, tile, GAP);
  const latest = useRef({ props, geometry, size });
  latest.current = { props, geometry, size };
  const frame = useRef(0);

  const schedule = () => {
    frame.current ||= requestAnimationFrame(() => {
      frame.current = 0;
      if (scroller.current && canvas.current) draw(scroller.current, canvas.current, latest.current);
    });
  };

  useLayoutEffect(() => {
    const element = scroller.current as HTMLDivElement;
    const measure = () => setSize({ width: element.clientWidth, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const stop = effect(() => {
      props.version.value;
      schedule();
    });
    darkScheme.addEventListener("change", schedule);
    return () => {
      stop();
      darkScheme.removeEventListener("change", schedule);
      cancelAnimationFrame(frame.current);
      frame.current = 0;
    };
  }, [props.version]);

  useLayoutEffect(schedule);

  useLayoutEffect(() => {
    const element = scroller.current as HTMLDivElement;
    if (active < 0 || size.height === 0) return;
    const top = scrollToShow(geometry, active, element.scrollTop, size.height);
    if (top !== null) element.scrollTop = top;
  }, [active, geometry.columns, tile, size.height]);

  const rect = active >= 0 && active < n ? tileRect(geometry, active) : null;
  const pick = (event: MouseEvent) => {
    const bounds = (scroller.current as HTMLDivElement).getBoundingClientRect();
    const y = event.clientY - bounds.top + (scroller.current as HTMLDivElement).scrollTop;
    const position = positionAt(geometry, n, event.clientX - bounds.left, y);
    if (position !== null) props.onPick(position, event);
  };

  return (
    <div
      ref={scroller}
      class="grid"
      role="listbox"
      tabIndex={0}
      aria-label={props.label}
      aria-multiselectable
      aria-activedescendant={rect ? "active-cell" : undefined}
      onScroll={schedule}
      onClick={pick}
      onKeyDown={props.onKeyDown}
      data-columns={geometry.columns}
    >
      <div class="grid-sizer" style={{ height: `${geometry.height}px` }} role="presentation">
        <canvas ref={canvas} class="grid-canvas" aria-hidden="true" />
        {rect && (
          <div
            id="active-cell"
            class="grid-active"
            role="option"
            tabIndex={-1}
            aria-selected={props.isSelected(active)}
            aria-posinset={active + 1}
            aria-setsize={n}
            aria-label={props.describe(active)}
            style={{ transform: `translate(${rect.x}px, ${rect.y}px)`, width: `${tile}px`, height: `${tile}px` }}
          />
        )}
      </div>
    </div>
  );
}

interface Latest {
  readonly props: GridProps;
  readonly geometry: ReturnType<typeof gridGeometry>;
  readonly size: { width: number; height: number };
}

function draw(scroller: HTMLElement, canvas: HTMLCanvasElement, { props, geometry, size }: Latest): void {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(size.width * ratio);
  const height = Math.round(size.height * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.width = `${size.width}px`;
    canvas.style.height = `${size.height}px`;
  }
  const context = canvas.getContext("2d");
  if (!context || width === 0) return;
  const top = scroller.scrollTop;
  const [first, last] = visibleRange(geometry, props.n, top, top + size.height);
  props.onView(first, last, geometry.columns);
  const theme = readTheme(scroller);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, size.width, size.height);
  context.imageSmoothingQuality = "low";
  for (let position = first; position < last; position++) {
    const { x, y } = tileRect(geometry, position);
    props.paint(context, position, x, y - top, theme);
  }
}

let cachedTheme: { isDark: boolean; theme: TileTheme } | null = null;

function readTheme(element: HTMLElement): TileTheme {
  const isDark = darkScheme.matches;
  if (cachedTheme?.isDark !== isDark) {
    const style = getComputedStyle(element);
    const variable = (name: string) => style.getPropertyValue(name).trim();
    const theme = {
      selection: variable("--text"),
      placeholder: variable("--placeholder"),
      warning: variable("--warning"),
    };
    cachedTheme = { isDark, theme };
  }
  return cachedTheme.theme;
}
