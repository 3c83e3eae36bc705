"""ONNX files with the metadata of deepness: models going out, and others' coming in.

onnx and onnxruntime are installed on demand only: ``tools/install_backend.py --extra onnx``.
"""
