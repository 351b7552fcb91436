#!/usr/bin/python3 -I
from pgs_backup.__main__ import main

main()
