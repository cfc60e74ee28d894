import { defineConfig } from "vitest/config";
import { mockServer } from "./dev/mock_server.ts";

/** Folder that the Python package ships; file names are fixed, since the templates beside them name them. */
const STATIC = "../nephros/server/static";
const ROUTES = ["/version", "/models", "/samples", "/predict"];

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
      input: { annotate: "src/annotate/main.tsx", classify: "src/classify/main.tsx" },
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "shared.js",
        assetFileNames: "pages[extname]",
      },
    },
  },
  // The page that classifies uploads has no imitated routes: run `nephros serve` beside the development server.
  server: {
    proxy: Object.fromEntries(ROUTES.map((route) => [route, { target: "http://127.0.0.1:8000", changeOrigin: true }])),
  },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
