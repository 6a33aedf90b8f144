#!/usr/bin/env python3
"""Writes data/lowercase_table.inc: what Python's str.lower does to each code point.

usage: dev/make_case_table.py > data/lowercase_table.inc

Everything is asked of Python's own str.lower, which the official SQuAD scripts call, so that the table is right by construction.
"""
import sys
import unicodedata

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(member):
    """Inclusive ranges of the code points that `member` accepts."""
    found = []
    for c in POINTS:
        if not member(c):
            continue
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def lower_ranges():
    """[first, last, stride, delta]: c -> c + delta for each stride-th code point of first..last."""
    found = []
    for c in POINTS:
        low = chr(c).lower()
        if len(low) != 1 or ord(low) == c:
            continue
        delta = ord(low) - c
        if found:
            last = found[-1]
            step = c - last[1]
            if last[3] == delta and step <= 2 and (last[0] == last[1] or step == last[2]):
                last[1], last[2] = c, step
                continue
        found.append([c, c, 1, delta])
    return found


def final_sigma(before, after=""):
    """Whether the sigma of before + sigma + after becomes the final one."""
    return (before + "\u03a3" + after).lower()[len(before.lower())] == "\u03c2"


def case_ignorable(c):
    """Skipped in the search for the letter before a sigma; a cased letter that is not ignorable stops it as well, alone too."""
    return final_sigma("a" + chr(c)) and not final_sigma(chr(c))


def cased(c):
    """The letter before a sigma that makes it final."""
    return final_sigma(chr(c))


def rows(items, form):
    line = ""
    for item in items:
        text = form % tuple(item) + ","
        if len(line) + len(text) + 1 > 128:
            print(line)
            line = ""
        line += (" " if line else "    ") + text
    print(line)


def main():
    multiple = [c for c in POINTS if len(chr(c).lower()) > 1]
    assert multiple == [0x130], "a second code point with a multiple lower-case form: %r" % multiple
    print("// Made by dev/make_case_table.py from Unicode %s (Python %d.%d). Not for editing." %
          (unicodedata.unidata_version, *sys.version_info[:2]))
    print("// c -> c + delta for each stride-th code point of first..last; U+0130 and the final sigma are in the code.")
    print("inline constexpr LowerRange kLower[] = {")
    rows(lower_ranges(), "{0x%X, 0x%X, %d, %d}")
    print("};\n// Passed over in the search for a cased letter around a sigma.\ninline constexpr CodePointRange kCaseIgnorable[] = {")
    rows(ranges(case_ignorable), "{0x%X, 0x%X}")
    print("};\n// Letters with case that are not ignorable.\ninline constexpr CodePointRange kCased[] = {")
    rows(ranges(cased), "{0x%X, 0x%X}")
    print("};")


main()
