"""Assignment 2: which of your functions is which part. Only for answers in files of your own.

Take away the # before the parts that you have, and put your names in. Hand this file in together with the files that it
imports from, as a folder or a zip. A notebook needs none of this.
"""

# from my_code import my_function as waves
# from my_code import my_function as attend
# from my_code import my_function as multi_head
# from my_code import my_function as over_pixels
# from my_code import my_function as over_frames
# from my_code import my_function as dual
# from my_code import my_function as two_guidances
