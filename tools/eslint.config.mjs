// What tools/lint asks of the page and the tools.
import js from '@eslint/js';
import globals from 'globals';

export default [
  { ignores: ['node_modules/'] },
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    languageOptions: { ecmaVersion: 2023, sourceType: 'module' },
    rules: {
      eqeqeq: 'error',
      'no-constant-binary-expression': 'error',
      'no-implicit-coercion': ['error', { boolean: true, number: true, string: true }],
      'no-promise-executor-return': 'off',
      'no-self-compare': 'error',
      'no-shadow': ['error', { builtinGlobals: false }],
      'no-template-curly-in-string': 'error',
      'no-throw-literal': 'error',
      'no-unmodified-loop-condition': 'error',
      'no-unused-vars': ['error', { args: 'after-used', caughtErrors: 'all' }],
      'no-useless-return': 'error',
      'no-var': 'error',
      'object-shorthand': 'error',
      'prefer-const': ['error', { destructuring: 'all' }],
      'require-atomic-updates': 'off',
    },
  },
  { files: ['page/**/*.js'], languageOptions: { globals: { ...globals.browser, JitsiMeetJS: 'readonly' } } },
  { files: ['**/*.mjs'], languageOptions: { globals: globals.node } },
  // Functions of these files run in pages, too.
  { files: ['lib/browsers.mjs', 'lib/firefox.mjs', 'record.d/main.mjs', 'quality.d/**/*.mjs'], languageOptions: { globals: globals.browser } },
];
