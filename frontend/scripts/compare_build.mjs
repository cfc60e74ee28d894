// Builds the pages into a temporary folder and compares them with the files that the Python package ships.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const shipped = join(import.meta.dirname, "../../nephros/server/static");
const folder = mkdtempSync(join(tmpdir(), "nephros-static-"));
try {
  execFileSync(
    process.execPath,
    [join(import.meta.dirname, "../node_modules/vite/bin/vite.js"), "build", "--logLevel", "error"],
    {
      cwd: join(import.meta.dirname, ".."),
      env: { ...process.env, NEPHROS_STATIC: folder },
      stdio: "inherit",
    },
  );
  const names = readdirSync(folder);
  const differing = names.filter((name) => content(folder, name) !== content(shipped, name));
  if (differing.length) {
    console.error(
      `nephros/server/static does not match frontend/src (${differing.join(", ")}): run npm run build in frontend/.`,
    );
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}

function content(root, name) {
  try {
    return readFileSync(join(root, name), "utf8");
  } catch {
    return null;
  }
}
