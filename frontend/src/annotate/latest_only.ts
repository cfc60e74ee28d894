/** Runs a task at most once at a time; calls while it runs lead to one more run, not to a queue. */
export function latestOnly(task: () => Promise<void>, pauseMs = 0): () => Promise<void> {
  let running: Promise<void> | null = null;
  let isAskedAgain = false;
  const run = async () => {
    do {
      isAskedAgain = false;
      await task();
      if (pauseMs && isAskedAgain) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    } while (isAskedAgain);
  };
  return () => {
    if (running) isAskedAgain = true;
    else {
      running = run().finally(() => {
        running = null;
      });
    }
    return running;
  };
}
