// Bundles what pages load into static/vendor/, each file named by a hash of its content, and writes manifest.json:
// logical name -> file name. Run by `npm run build`; safe to repeat, safe beside a running server (new names first,
// then the manifest, then the files that nothing names any more).
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = join(root, "static", "vendor");

// Pages name these; the rest (fonts inside the stylesheet) is found through the stylesheet itself.
const bundles = {
  "app.js": "frontend/app.js",
  "theme.js": "frontend/theme.js",
  "app.css": "frontend/app.css",
};
const files = {
  "favicon.svg": "static/icons/favicon.svg",
  "favicon-rud.svg": "static/icons/favicon-rud.svg",
  "text.woff2": "node_modules/@fontsource-variable/instrument-sans/files/instrument-sans-latin-wdth-normal.woff2",
  "mono.woff2": "node_modules/@fontsource-variable/geist-mono/files/geist-mono-latin-wght-normal.woff2",
};

const hashed = (name, content) => {
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 10);
  return `${basename(name, extname(name))}-${hash}${extname(name)}`;
};

async function writeHashed(name, content) {
  const file = hashed(name, content);
  await writeFile(join(out, file), content);
  return file;
}

async function bundle(name, entry, fonts) {
  const result = await build({
    entryPoints: [join(root, entry)],
    bundle: true,
    minify: true,
    write: false,
    outfile: join(out, name),
    format: "iife",
    target: ["es2022", "chrome123", "firefox120", "safari17.5"],
    legalComments: "none",
    plugins: [fonts],
    logLevel: "warning",
  });
  return result.outputFiles.find((file) => file.path.endsWith(name)).contents;
}

// One copy of each font: the stylesheet refers to `font:text.woff2`, the page preloads the same address.
const fontPlugin = (manifest) => ({
  name: "fonts",
  setup(api) {
    api.onResolve({ filter: /^font:/ }, (found) => ({ path: `./${manifest[found.path.slice(5)]}`, external: true }));
  },
});

await mkdir(out, { recursive: true });
const manifest = {};
for (const [name, path] of Object.entries(files)) {
  manifest[name] = await writeHashed(name, await readFile(join(root, path)));
}
for (const [name, entry] of Object.entries(bundles)) {
  manifest[name] = await writeHashed(name, await bundle(name, entry, fontPlugin(manifest)));
}

const draft = join(out, `.manifest-${process.pid}.json`);
await writeFile(draft, JSON.stringify(manifest, null, 2) + "\n");
await rename(draft, join(out, "manifest.json"));
const kept = new Set([...Object.values(manifest), "manifest.json"]);
for (const file of await readdir(out)) {
  if (!kept.has(file) && !file.startsWith(".manifest-")) await rm(join(out, file));
}
console.log(`static/vendor: ${Object.values(manifest).join(" ")}`);
