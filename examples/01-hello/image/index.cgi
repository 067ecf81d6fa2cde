#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
echo "$GREETING from $(hostname): $(wget -q -O - http://quotes:9000/today)"
