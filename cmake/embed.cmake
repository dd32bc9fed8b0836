# -DIN=file -DOUT=file.c -DNAME=name -P embed.cmake: the bytes of a file as a C array, and their number.
file(READ ${IN} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "((0x..,){16})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include \"serve/page.h\"\nconst unsigned char ${NAME}[] = {${bytes}};\n"
                  "const unsigned long ${NAME}_bytes = sizeof ${NAME};\n")
