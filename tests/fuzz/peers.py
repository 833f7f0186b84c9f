#!/usr/bin/env python3
"""Reads documents from standard input and says what expat and libxml2 see in them.

Each message is four bytes of length and the text. A reply has a part for each reader, with U+0003
between them: name, sign and tree or complaint, with U+0004 between these. The tree is what
src/lib.rs calls one, with U+0002 between events. None of these is a character of XML.

    peers.py FILE...   judges the files instead, each an element of a stream, and prints what it sees
"""
import ctypes
import ctypes.util
import re
import sys
import xml.parsers.expat

HEADER = ("<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
          "xmlns:stream='http://etherx.jabber.org/streams' xmlns:e='urn:outer' xml:lang='en' version='1.0'>")


class Tree:
    def __init__(self):
        self.events, self.text = [], []

    def start(self, ns, name, attrs):
        self.flush()
        attrs = sorted("{%s}%s=%s" % a for a in attrs)
        attrs.sort(key=lambda a: a.encode())
        self.events.append("<{%s}%s\x01%s" % (ns, name, "\x01".join(attrs)))

    def end(self):
        self.flush()
        self.events.append(">")

    def flush(self):
        text = re.sub("[\r\n]+", "\n", "".join(self.text))
        self.text = []
        if text:
            self.events.append(text)


def expat(data):
    """As Prosody and libstrophe read: in one go, names joined with a separator."""
    tree = Tree()
    parser = xml.parsers.expat.ParserCreate("UTF-8", "}")
    parser.buffer_text = True
    parser.ordered_attributes = True

    def split(name):
        ns, _, local = name.rpartition("}")
        return ns, local

    def start(name, attrs):
        tree.start(*split(name), [(*split(n), v) for n, v in zip(attrs[::2], attrs[1::2])])

    def restricted(*_):
        raise ValueError("what no stream may hold")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: tree.end()
    parser.CharacterDataHandler = lambda text: tree.text.append(text)
    parser.StartDoctypeDeclHandler = restricted
    parser.CommentHandler = restricted
    parser.ProcessingInstructionHandler = restricted
    parser.Parse(data, True)
    return tree.events


LIB = ctypes.util.find_library("xml2")
if LIB:
    LIB = ctypes.CDLL(LIB)
    C, I, P = ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p
    for name, result, args in [
        ("xmlReaderForMemory", P, [C, I, C, C, I]),
        ("xmlTextReaderRead", I, [P]),
        ("xmlTextReaderNodeType", I, [P]),
        ("xmlTextReaderIsEmptyElement", I, [P]),
        ("xmlTextReaderConstLocalName", C, [P]),
        ("xmlTextReaderConstNamespaceUri", C, [P]),
        ("xmlTextReaderConstValue", C, [P]),
        ("xmlTextReaderMoveToNextAttribute", I, [P]),
        ("xmlTextReaderMoveToElement", I, [P]),
        ("xmlTextReaderIsNamespaceDecl", I, [P]),
        ("xmlFreeTextReader", None, [P]),
        ("xmlGetLastError", P, []),
        ("xmlResetLastError", None, []),
    ]:
        function = getattr(LIB, name)
        function.restype, function.argtypes = result, args


class Complaint(ctypes.Structure):
    _fields_ = [("domain", ctypes.c_int), ("code", ctypes.c_int), ("message", ctypes.c_char_p),
                ("level", ctypes.c_int)]


def libxml2(data):
    """As libxml2's readers do; errors of namespaces, which it only reports, count."""
    tree = Tree()
    word = lambda b: (b or b"").decode()
    LIB.xmlResetLastError()
    reader = LIB.xmlReaderForMemory(data, len(data), None, b"UTF-8", 32 | 64 | 2048)
    try:
        while (more := LIB.xmlTextReaderRead(reader)) == 1:
            kind = LIB.xmlTextReaderNodeType(reader)
            if kind == 1:
                empty = LIB.xmlTextReaderIsEmptyElement(reader)
                name = (word(LIB.xmlTextReaderConstNamespaceUri(reader)),
                        word(LIB.xmlTextReaderConstLocalName(reader)))
                attrs = []
                while LIB.xmlTextReaderMoveToNextAttribute(reader) == 1:
                    if not LIB.xmlTextReaderIsNamespaceDecl(reader):
                        attrs.append((word(LIB.xmlTextReaderConstNamespaceUri(reader)),
                                      word(LIB.xmlTextReaderConstLocalName(reader)),
                                      word(LIB.xmlTextReaderConstValue(reader))))
                LIB.xmlTextReaderMoveToElement(reader)
                tree.start(*name, attrs)
                if empty:
                    tree.end()
            elif kind == 15:
                tree.end()
            elif kind in (3, 4, 13, 14):
                tree.text.append(word(LIB.xmlTextReaderConstValue(reader)))
            else:
                raise ValueError("a node of kind %d" % kind)
        error = LIB.xmlGetLastError()
        if error:
            error = Complaint.from_address(error)
            if more != 0 or error.level >= 2:
                raise ValueError(word(error.message).strip())
        if more != 0:
            raise ValueError("no end")
    finally:
        LIB.xmlFreeTextReader(reader)
    return tree.events


READERS = [("expat", expat)] + ([("libxml2", libxml2)] if LIB else [])


def judge(data):
    for name, reader in READERS:
        try:
            yield name, "+", "\x02".join(reader(data))
        except Exception as e:
            yield name, "-", str(e)


def serve():
    read, write = sys.stdin.buffer, sys.stdout.buffer
    while len(head := read.read(4)) == 4:
        data = read.read(int.from_bytes(head, "big"))
        reply = "\x03".join("\x04".join(part) for part in judge(data)).encode()
        write.write(len(reply).to_bytes(4, "big") + reply)
        write.flush()


if len(sys.argv) > 1:
    for file in sys.argv[1:]:
        with open(file, "rb") as f:
            element = f.read()
        for name, sign, text in judge(HEADER.encode() + element + b"</stream:stream>"):
            print(sign, name, file, "" if sign == "+" else text)
else:
    serve()
