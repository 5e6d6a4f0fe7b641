import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The API serves the built files under a strict content security policy, so nothing may be inlined into the page.
const server = process.env.SONGHUA_DEV_API ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    chunkSizeWarningLimit: 250,
  },
  server: { proxy: { "/v1": server } },
});
