#!/bin/sh
# Runs in the builder stage: takes out of an environment what no program at work reads.
#
#   prune.sh ENV
set -eu
cd "$1"/lib/python3*/site-packages

# Headers and link libraries are for compiling against, and no compiler comes along.
rm -rf tensorflow/include pyarrow/include numpy/core/include numpy/_core/include
find . -name '*.a' -delete
# TensorFlow requires libclang to build itself; nothing opens it afterwards.
rm -rf clang
# Packages' tests of themselves. Names of other things that are called so are kept.
for package in apache_beam h5py IPython matplotlib mpl_toolkits numpy pandas pyarrow scipy sklearn \
    tornado traitlets websocket zmq; do
    if [ -d "$package" ]; then find "$package" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +; fi
done
find . -name '*_test.py' -path './tfx/*' -delete
# Stubs are for editors and type checkers; jedi completes code for a person at a prompt.
find . -name "*.pyi" -delete
rm -rf jedi/third_party ../../../share/jupyter ../../../share/man

# Symbols that only a debugger reads. What auditwheel has patched (*.libs) is left as it is.
find . -name '*.so*' -type f -size +1M ! -path './*.libs/*' -exec strip --strip-unneeded {} +
