/** Makes the whole page take dropped files, with a note on those of folders that can't be read; returns whether files are over it now. */
import { useEffect, useRef, useState } from "preact/hooks";
import { droppedFiles } from "./dropped_files.ts";

export function useDroppedFiles(onFiles: (files: File[], note: string) => void): boolean {
  const [isOver, setIsOver] = useState(false);
  const handler = useRef(onFiles);
  handler.current = onFiles;
  useEffect(() => {
    const over = (event: DragEvent) => {
      event.preventDefault();
      setIsOver(true);
    };
    const leave = () => setIsOver(false);
    const drop = async (event: DragEvent) => {
      event.preventDefault();
      setIsOver(false);
      if (!event.dataTransfer) return;
      const { files, note } = await droppedFiles(event.dataTransfer);
      handler.current(files, note);
    };
    const listeners = { dragenter: over, dragover: over, dragleave: leave, drop } as unknown as Record<
      string,
      EventListener
    >;
    for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) document.removeEventListener(name, listener);
    };
  }, []);
  return isOver;
}
