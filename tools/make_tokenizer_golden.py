#!/usr/bin/env python3
"""Write tests/golden/tokenizer: strings, and what Hugging Face tokenizers makes of them.

    pip install tokenizers==0.23.3
    pip download --no-deps dashscope==1.25.24      # its wheel holds resources/qwen.tiktoken
    python tools/qwen_tokenizer.py qwen.tiktoken qwen.json
    python tools/make_tokenizer_golden.py models/austen-moe/tokenizer.json qwen.json

strings.jsonl   a JSON string a line
austen.jsonl    the ids of each string with the shipped vocabulary, a JSON array a line
qwen.jsonl      the same with the real one (written only if it is given)
classes.json    {pattern: [[first, last], ...]}: the code points that a pattern of one character takes
patterns.json   [[pattern, text, [the pieces' sizes in bytes]], ...]
nfc.json        [text, NFC of it]: every mark and every code point that decomposes, among marks
"""

import json
import os
import random
import sys
import unicodedata

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

FOLDER = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "tokenizer")

CODE = [
    'int main(void)\n{\n    printf("%d\\n", 42);\n    return 0;\n}\n',
    "for (size_t i = 0; i < n; i++)\n\ta[i] += b[i] * 2.5e-3f;\n",
    "#include <stdio.h>\r\n#define MAX(a, b) ((a) > (b) ? (a) : (b))\r\n",
    "def f(x, *args, **kwargs):\n    return {k: v for k, v in kwargs.items() if v is not None}\n",
    "    @property\n    def name(self) -> str:\n        return f\"{self.first} {self.last}\"\n",
    "SELECT * FROM users WHERE id = 10 AND name LIKE '%son' ORDER BY created_at DESC;",
    "fn main() { let v: Vec<u8> = vec![0; 16]; println!(\"{:?}\", v); }",
    "const f = async (x) => await fetch(`https://example.org/${x}?a=1&b=2`);",
    "<div class=\"a b\">\n  <p>Hello,&nbsp;<b>world</b>!</p>\n</div>",
    "if [ \"$1\" != '' ]; then echo ${HOME}/bin >> ~/.profile 2>&1; fi",
    "x = (a->b.c[3] ^ ~d) << 2 | e & 0xDEADbeef;",
    "//////////////////// TODO: fix #1234 ////////////////////",
    "{\"key\": [1, 2.0, -3e+10, null, true, \"\\u00e9\\n\"]}",
    "let re = /^\\s*(\\w+)\\s*=\\s*(.*?)\\s*$/gm;",
    "\\begin{equation} E = mc^2 \\label{eq:1} \\end{equation}",
    "a=b;c==d!=e===f<=>g->h=>i::j..k...l&&m||n??o?.p",
    "snake_case_name camelCaseName PascalCaseName SCREAMING_SNAKE kebab-case-name",
    "path/to/file.tar.gz C:\\Windows\\System32\\drivers\\etc\\hosts",
    "user@example.com https://www.example.com:8080/a%20b/c?q=1#frag",
    "0b1010 0o755 0xFF 1_000_000 3.14159 .5 5. 1e9 6.02214076e23 192.168.0.1 v1.2.3-rc4+build5",
    "\t\t\tif (x)\n\t\t\t\ty();\n\t\t\telse\n\t\t\t\tz();\n",
    "+-*/%=<>!&|^~?:;,.()[]{}@#$_`\"'\\",
]
LATIN = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune",
    "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition",
    "“You must allow me to tell you how ardently I admire and love you.”",
    "naïve café résumé coöperate façade Ångström Dvořák Łódź Øresund Þórr straße STRASSE",
    "El veloz murciélago hindú comía feliz cardillo y kiwi. ¿Dónde está? ¡Aquí!",
    "Zwölf Boxkämpfer jagten Eva quer über den großen Sylter Deich",
    "Portez ce vieux whisky au juge blond qui fume — l’été, c’est où ?",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig",
    "Árvíztűrő tükörfúrógép",
    "İstanbul'da ılık bir ığdır; IŞIK ışık",
    "Tiếng Việt: Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau",
    "Ñandú ñoño PIÑATA São João ação",
    "ﬁnance oﬃce ﬂow ﬆop Ⅷ ⅷ ℌ ℝ № ™ ℠ © ®",
    "ǅ ǆ Ǆ ǈ ŉ ẞ ß ſ K Å Ω",
    "Hello world",
    " Hello world",
    "Hello  world ",
    "To be or not to",
    "hello HELLO Hello hELLO",
    "a b c d e f g",
    "word" * 40,
    "The quick brown fox jumps over the lazy dog. " * 6,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "e.g., i.e.; etc... (sic!) [ibid.] {n.b.} <q.v.>",
]
SCRIPTS = [
    "你好，世界",
    "人工智能是计算机科学的一个分支。它企图了解智能的实质！",
    "《红楼梦》第一回：甄士隐梦幻识通灵　贾雨村风尘怀闺秀",
    "我有3个苹果和２０个橘子，一共23元。",
    "繁體中文：臺灣、香港與澳門，龍馬龜鱉",
    "中文English混排text测试123",
    "𠮷野家で𩸽を食べる 𠀀𠀁𪚥",
    "吾輩は猫である。名前はまだ無い。",
    "カタカナ ひらがな ﾊﾝｶｸ ｶﾞｷﾞｸﾞ ガギグ",
    "が ぱ か゛ ゔ ヷ ー々〆〇",
    "한국어 텍스트입니다. 안녕하세요?",
    "각각 ᄒ하한 ㄱㄴㄷ ㅏㅑ",
    "Съешь же ещё этих мягких французских булок, да выпей чаю",
    "Їжак, ґанок, щільність й Ёлка",
    "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία ᾳ ῇ ᾧ ΐ ΰ",
    "العربية: أَلْحَمْدُ لِلَّٰهِ رَبِّ الْعَالَمِينَ",
    "السلام عليكم ١٢٣٤٥ ۱۲۳۴۵ ؟،؛",
    "שָׁלוֹם עֲלֵיכֶם בְּרֵאשִׁית",
    "हिन्दी में लिखा हुआ: क्षत्रिय ज्ञान कि की क़ ख़ ड़ १२३",
    "বাংলা ভাষা কো কৌ ড় ঢ় য়",
    "தமிழ் மொழி கொ கோ கௌ",
    "తెలుగు ಕನ್ನಡ മലയാളം ੴ ગુજરાતી ଓଡ଼ିଆ",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ น้ำ ๑๒๓",
    "ພາສາລາວ ខ្មែរ မြန်မာဘာသာ བོད་ཡིག",
    "ქართული ენა ᲥᲐᲠᲗᲣᲚᲘ Հայերեն և",
    "አማርኛ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ᚠᚢᚦᚨᚱᚲ ꙮ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 𝒳 ⓐⓑⓒ ①②③ ㊀㊁ ㋿ ㍿",
    "Aa١ب2ג3あ4",
    "abcабвαβγ混合абв",
]
EMOJI = [
    "😀🏳️‍🌈",
    "👩‍👩‍👧‍👦 👨🏽‍💻 👍🏿 🤷‍♀️",
    "🇩🇪🇫🇷🇯🇵 🇺🇳",
    "1️⃣2️⃣ #️⃣ *️⃣",
    "❤ ❤️ ☺ ☺️ ☎︎ ☎️",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏴‍☠️",
    "a😀b 😀c d😀",
    "😀😀😀😀😀😀😀😀",
    "🦀🫠🥲🪿",
    "♠♣♥♦ ♩♪♫ ✓✗ ★☆ →⇒↔ ∀∃∑∏√∞≠≤≥ ½⅓¼ €£¥₹₿",
    "┌─┬─┐\n│ │ │\n└─┴─┘ ▀▄█▌▐░▒▓",
    "🀄🃏 𝄞 𓀀𓁐 𐍈",
]
MARKS = [
    "é vs é",
    "a\u0301\u0323 a\u0323\u0301 \u1ea1\u0301 \u00e1\u0323",
    "q\u0307\u0323 q\u0323\u0307",
    "s\u0323\u0307 \u1e69 s\u0307\u0323 \u1e61\u0323 \u1e63\u0307",
    "o\u031b\u0323\u0301 o\u0301\u0323\u031b \u1ee3\u0301",
    "e\u0302\u0301 \u00ea\u0301 \u1ebf e\u0301\u0302",
    "\u0344 \u0308\u0301 \u0340 \u0341 \u0343 \u0374 \u037e \u0387",
    "\u212b \u212a \u2126 \u2000 \u2001 \u2329 \u232a",
    "\u1100\u1161 \u1100\u1161\u11a8 \uac00\u11a8 \uac01\u11a8 \u1100\u1161\u1161 \u11a8",
    "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "\u0958 \u0915\u093c \u09dc \u0a33 \u0b5c \u0f43 \u0f69 \ufb1f \ufb2c \ufb2a",
    "\u05d0\u05b7\u05bc \u05d0\u05bc\u05b7 \u05e9\u05c1\u05bc",
    "\u064e\u0651 \u0651\u064e \u0627\u0653 \u0648\u0654",
    "\u0f71\u0f72 \u0f72\u0f71 \u0f73 \u0f81 \u0f71\u0f74\u0f80",
    "\u03b1\u0345\u0313\u0301 \u03b1\u0313\u0301\u0345 \u1f84",
    "\u0301start \u0301 \u0301\u0301\u0301",
    "e\u034f\u0301 e\u200d\u0301 e\u200c\u0301",
    "Z\u0351\u036b\u0343\u036a\u0302\u0308\u0301a\u0321\u0316\u0317\u0318l\u0322\u0327g\u0328\u0361o\u0489",
    "\u1e9b\u0323 \u017f\u0323\u0307",
    "\u3099 \u304b\u3099 \u304b\u309a \u30cf\u309a \u30cf\u3099\u309a",
    "\uf900 \ufa10 \ufa30 \U0002f800 \U0002fa1d",
    "\u0bc6\u0bbe \u0bc7\u0bbe \u0dd9\u0dca \u0ddc\u0dca \u1025\u102e",
    "\U000110a5\U000110ba \U00011131\U00011127 \U0001d15e \U0001d1bc",
    "=\u0338 <\u0338 >\u0338 \u2260 \u226e \u2adc \u2add\u0338",
    "a" + "\u0301" * 40,
    "a" + "\u0301\u0323" * 30,
    "\u0323" * 9 + "\u0301" * 9 + "\u031b" * 9,
]
DIGITS = [
    "12345 67",
    "١٢٣ ⅷ ½",
    "0 1 22 333 4444 55555 666666 7777777",
    "3.14 -1 +2 1,000,000.00 $5.99 50% №7 1/2 2024-12-31T23:59:59Z",
    "²³¹⁰⁴ ₀₁₂ ①②⑳ ⒈ ⑴ ⅠⅡⅫ ⅰ",
    "०१२ ০১২ ੦੧ ૦૧ ୦୧ ௦௧ ౦౧ ೦೧ ൦൧ ๐๑ ໐໑ ༠༡ ၀၁ ០១ ᠐᠑",
    "０１２３ 𝟎𝟏 𝟬𝟭 🄀 ㉈ 〇一二三 𐒠𐒡",
    "a1b2c3 1a2b3c x86_64 utf8 H2O CO₂ x² 10km 5GHz",
    "1" * 100,
    "1234567890" * 8,
    "٣" * 20,
    "½¾⅐⅑ ৴৵ ௰௱ ፩፪ 〡〢 ꘠꘡",
]
SPACES = [
    "  multiple   spaces\n\n\tTab",
    "a\r\nb \r\n c",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\t",
    "\t\t",
    " \n",
    "\n ",
    " \n ",
    "a ",
    "a  ",
    " a",
    "  a",
    "a\n",
    "a\n\n\nb",
    "a \n b",
    "a  \n  b",
    "a\t b",
    "a \tb",
    "a\u00a0b",
    "a\u00a0\u00a0b",
    "\u00a0a",
    "a \u00a0 b",
    "a\u2028b\u2029c",
    "a\u2028\u2028 b",
    "a\u3000b\u3000\u3000c",
    "a\u0085b\u0085\u0085c",
    "a\u200bb \u200b c",
    "a\u200c\u200d\u2060\ufeffb",
    "\ufeffBOM",
    "a\u1680b\u2000c\u2001d\u2003e\u2009f\u200ag\u202fh\u205fi",
    "a\u180eb \u180e c\u180e",
    "\u180e",
    "x\u180e\u180ey",
    "a\x0bb\x0cc",
    "a\x1cb\x1dc\x1ed\x1fe",
    "end with spaces    ",
    "end with newline\n",
    "end with crlf\r\n\r\n",
    "\n\n\n   indented\n\t\ttabs\n",
    "one\n\n\n\n\n\n\n\ntwo",
    "a \r b \r\r c\r\n\n\r d",
    "." + " " * 50 + ".",
    " " * 100,
    "\n" * 64,
    "\t" * 33,
    "\r\n" * 20,
    " \n" * 20,
    "\n \n  \n   \n",
    "x" + " \t" * 10 + "y",
    "!\n!\n\n!\r\n\r\n",
    "!!! \n\n ???\t\n",
]
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
    "a<|endoftext|>b",
    "a <|endoftext|> b",
    "<|endoftext|><|endoftext|>",
    "<|im_start|><|im_end|><|endoftext|>",
    "<|endoftext|>\n\n",
    "\n<|im_end|>\n",
    "  <|im_end|>  ",
    "<|endoftext",
    "endoftext|>",
    "<|endoftext|",
    "<|im_start|",
    "<|im_|>",
    "<|im_start |>",
    "<| im_start|>",
    "<|IM_START|>",
    "<<|im_end|>>",
    "<|<|im_end|>|>",
    "<|im_start<|im_start|>",
    "<|im_start|><|im_start",
    "e<|im_end|>\u0301",
    "'<|im_end|>s",
    "12<|im_end|>34",
    "你好<|im_end|>世界",
    "<s></s><unk><pad>[CLS][SEP]",
    "<think>\nhm\n</think>",
    "<|vision_start|><|object_ref_start|>",
    "<\u200b|im_end|>",
]
APOSTROPHES = [
    "I'm DON'T we'LL",
    "don't I'll he's they've we're I'd I'm",
    "DON'T I'LL HE'S THEY'VE WE'RE I'D I'M",
    "Don'T I'Ll he'S they'Ve we'rE i'D",
    "'s 't 're 've 'm 'll 'd",
    "'S'T'RE'VE'M'LL'D",
    "''s '''t 'sx 'llama 'dog 'mother 'revert 'very",
    "rock 'n' roll o'clock 'twas ne'er-do-well",
    "don’t I’ll he’s",
    "'ſ x'ſ 'K 'ſs",
    "it's'll've",
    "5's 10'd a1's !'s \n's",
    "'l 'r 'v l'l r'e",
    "l'été d'où qu'il aujourd'hui",
    "'é 'я '你 's你 'sé",
    "fo'c's'le y'all'd've",
]
ODD = [
    "",
    "a",
    "\x00",
    "a\x00b",
    "\x00\x00\x00",
    " \x00 \x00\n\x00",
    "\x01\x02\x03\x1b[31mred\x1b[0m\x7f",
    "\x80\x81\x9f\xad",
    "\ufffd \ufffd\ufffd",
    "\uffff\ufffe\ufdd0",
    "\U0010ffff\U000f0000\ue000",
    "\U0001f600\U0001f600\x00",
    "\u202eabc\u202c \u2066x\u2069",
    "a\u00adb\u00ad",
    "\ud7ff\ue000",
    "-" * 80,
    "=" * 80,
    "a" * 300,
    "ab" * 150,
    "!" * 200,
    "?!" * 50,
    "あ" * 100,
    "🙂" * 50,
    "...…‥. . .",
    "-- — – ‒ ― ‐ ‑ −",
    "\"\"\" ''' ``` ~~~ *** ___",
    "（全角）「括弧」『』【】〔〕",
    "→→ a→b",
    "->",
    "(x):\n",
    "x)\n\n(y",
    "#\n##\n###",
    "$$$ $a $1 a$ 1$",
    "_a __b__ _1_",
    "A.B.C. U.S.A. p.m.",
    "\u0e33\u0e4d\u0e32",
]


# Patterns of other models' files, and constructs that engines are known to differ on.
TEXT = "I'm at 12345 Main St.\r\n\n  \tÉté «déjà»\u3000你好 x\u180ey_z 1½٣ 'LL --foo(bar);\n \n"
PATTERNS = [(pattern, TEXT) for pattern in [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\p{N}{1,3}",
    r"[一-龥\u3040-\u309f]+",
    r"\s+$",
    r"^\s*",
    r"[^\S\n]+",
    r".+",
    r"[\s\S]",
    r"\D+|\d",
    r"(?<=\p{L})(?=\P{L})",
    r"[-.:']",
    r"[.:]",
    r"(?:[\x{e0}-\x{ff}]|t)++",
]] + [
    ("x*", "abxxc"),
    ("(?=b)", "abab"),
    ("", "aé你"),
    ("a|", "bab"),
    ("a++a|b", "aaab"),
    ("a?+a", "aaab"),
    ("a*?b", "aab"),
    ("^b", "ab\nbb\n"),
    ("b$", "ab\nbb\n\n"),
    ("\n^", "ab\nbb\n\n"),
    ("(?i:[sdmt]|k)", "SſKkKxT"),
    ("(?:a{0,3}){2}b", "aaaaab"),
    ("(?>a*)b", "aab"),
    ("(?<=a|bc)d", "adbcd"),
    ("[a-]|[^-b]", "a-bc"),
    ("[a&]", "a&b"),
]


def random_strings(count):
    """Return mixtures, the same ones at every run; nothing newer than Unicode 8."""
    pools = [
        "abcdefghijklmnopqrstuvwxyz",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "0123456789",
        " ",
        " \t\n\r\u00a0\u2028\u3000\u0085",
        "'\".,;:!?-_()[]{}<>|/\\@#$%^&*+=~`",
        "你好世界的中文日本語かな한국어",
        "\u0301\u0323\u0308\u0327\u0345\u093c\u094d\u05b0\u1100\u1161\u11a8",
        "éüñçâê",
        "😀👍❤",
        ["<|im_end|>", "'s", "'LL", " the", "ing", "\r\n"],
    ]
    generator = random.Random(1)
    strings = []
    for _ in range(count):
        chosen = generator.sample(pools, generator.randint(1, 4))
        length = generator.randint(1, 30)
        strings.append("".join(generator.choice(generator.choice(chosen)) for _ in range(length)))
    return strings


def ranges(code_points):
    found = []
    for c in code_points:
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def code_points():
    return [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def class_ranges(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    kept = {ord(c) for piece, _ in split.pre_tokenize_str("".join(map(chr, code_points()))) for c in piece}
    return ranges(c for c in code_points() if c not in kept)


def nfc_pair():
    """Every mark and every code point that decomposes, in the company of other marks."""
    marks = {c for first, last in class_ranges(r"\p{M}") for c in range(first, last + 1)}
    lines = []
    for c in code_points():
        parts = unicodedata.normalize("NFD", chr(c))
        if 0xAC00 <= c <= 0xD7A3 and c % 97:
            continue  # a sample of the Hangul syllables
        if c in marks or parts != chr(c):
            lines.append(f"a{chr(c)}\u0301\u0323{parts}\u0345{chr(c)}\u0327")
    text = "\n".join(lines)
    return [text, normalizers.NFC().normalize_str(text)]


def pieces(pattern, text):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return [len(piece.encode()) for piece, _ in split.pre_tokenize_str(text)]


def write_lines(name, values):
    with open(os.path.join(FOLDER, name), "w") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    os.makedirs(FOLDER, exist_ok=True)
    groups = [CODE, LATIN, SCRIPTS, EMOJI, MARKS, DIGITS, SPACES, SPECIAL, APOSTROPHES, ODD]
    strings = [text for group in groups for text in group] + random_strings(60)
    write_lines("strings.jsonl", strings)
    for name, path in zip(["austen.jsonl", "qwen.jsonl"], sys.argv[1:]):
        tokenizer = Tokenizer.from_file(path)
        write_lines(name, [tokenizer.encode(text).ids for text in strings])
    classes = [r"\s", r"\S", r"\p{L}", r"\p{N}", r"\p{M}", r"\p{P}", r"\p{Cn}"]
    write_lines("classes.json", [{pattern: class_ranges(pattern) for pattern in classes}])
    write_lines("patterns.json", [[[pattern, text, pieces(pattern, text)] for pattern, text in PATTERNS]])
    with open(os.path.join(FOLDER, "nfc.json"), "w", encoding="utf-8") as file:
        json.dump(nfc_pair(), file, ensure_ascii=False)
        file.write("\n")
    print(f"{len(strings)} strings")


if __name__ == "__main__":
    main()
