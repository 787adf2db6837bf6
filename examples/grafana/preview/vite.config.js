import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  resolve: {
    // Grafana's libraries are built with a package that this one has become.
    alias: { 'react-router-dom-v5-compat': 'react-router-dom' },
    dedupe: ['react', 'react-dom', '@grafana/data', '@grafana/ui', '@grafana/runtime'],
  },
  esbuild: { jsx: 'automatic' },
  build: { minify: false, chunkSizeWarningLimit: 100_000, reportCompressedSize: false },
});
