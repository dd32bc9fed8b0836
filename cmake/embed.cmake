# -DIN=file -DOUT=file.c -DNAME=name -DHEADER=file.h -P embed.cmake: the bytes of a file as a C array, and their
# number, as the header declares them.
file(READ ${IN} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "((0x..,){16})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include \"${HEADER}\"\nconst unsigned char ${NAME}[] = {${bytes}};\n"
                  "const unsigned long ${NAME}_bytes = sizeof ${NAME};\n")
