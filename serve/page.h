/* The page at /, serve/page.html, which the build turns into an array (cmake/embed.cmake). */
#pragma once

extern const unsigned char page_html[]; // [page_html_bytes]
extern const unsigned long page_html_bytes;
