import { defineConfig } from "vitest/config";
import { mockServer } from "./dev/mock_server.ts";

/** Folder that the Python package ships; file names are fixed, since the templates beside them name them. */
const STATIC = "../nephros/server/static";

export default defineConfig({
  plugins: [mockServer()],
  build: {
    outDir: process.env.NEPHROS_STATIC ?? STATIC,
    emptyOutDir: false,
    copyPublicDir: false,
    cssCodeSplit: false,
    modulePreload: false,
    target: "es2022",
    rollupOptions: {
      input: { annotate: "src/annotate/main.tsx" },
      output: {
        entryFileNames: "[name].js",
        assetFileNames: "annotate[extname]",
      },
    },
  },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
